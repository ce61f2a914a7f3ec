"""Draw docs/images/augmented.png: real images as D sees them while p grows, a row each for 0, 0.2, 0.5, 0.8 and 1.

python scripts/draw_augmented.py docs/images/augmented.png
"""

import itertools
import sys

import torch
from PIL import Image

from bigtrain.augment.ada import AdaConfig
from bigtrain.core.quantise import to_uint8
from bigtrain.core.rng import Draws
from bigtrain.generate.pictures import image_grid
from data_pipelines.prepare import NAMED_SOURCES

COLUMNS = 12

samples = itertools.islice(NAMED_SOURCES["fashion-mnist-10k"](32).samples, COLUMNS)
images = torch.stack([torch.from_numpy(image) for image, *_ in samples]).float() / 127.5 - 1
pipe = AdaConfig(kind="ada", transforms="bgc").build()
draws = Draws(0, torch.arange(COLUMNS), "picture")
rows = [pipe(images, draws, p) for p in (0.0, 0.2, 0.5, 0.8, 1.0)]
Image.fromarray(image_grid(to_uint8(torch.cat(rows)), COLUMNS, width=800)).save(sys.argv[1])
