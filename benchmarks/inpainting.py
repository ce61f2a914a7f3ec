"""Inpainting of held-out images: the network, its coarse stage alone, Telea's method, and the smooth start.

    .venv/bin/python benchmarks/inpainting.py NETWORK... [--coarse COARSE...] [--data emoji] [--picture PNG]

The first arguments are snapshots of `configs/translation/inpaint-emoji64.yaml` or
`configs/translation/edgeconnect-emoji64.yaml`, one a seed; those after `--coarse` are of the former recipe with
`generator.refine=false first_stage=null` and without a discriminator, as the recipe tells: the first stage, trained
with L1 alone. The held-out images are the split `test` of `bigtrain data prepare emoji-lines`, or of `photos` with
`--data photos`, prepared here; the holes are those of the recipe, by the sample's number. L1 is the mean difference of
a pixel's value in the holes (of 255), FID and the perceptual distance are of EfficientNet-Lite0's features of whole
pictures, whose known pixels are equal. Telea's method is OpenCV's (Telea 2004, radius 3). The coarse stage that was
trained with the network is scored too. Intervals are of Student's t over the differences between runs of one seed.
"""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import torch
from colourisation import sheet
from torch import Tensor
from translation import CPU, features_of, normalised, pixels_of, print_differences, shown

import bigtrain as bt
from bigtrain.augment.derived.holes import HolesConfig
from bigtrain.core.rng import Draws
from bigtrain.evaluation.distances import build_distance
from bigtrain.evaluation.extractors import build_extractor
from bigtrain.evaluation.metrics.fid import frechet_distance_of
from bigtrain.models.layers.holes import smoothly_filled
from data_pipelines.prepare import emoji
from data_pipelines.prepare.photos import photos
from data_pipelines.prepare.run import PrepareOptions, prepare
from data_pipelines.read import ShardDataset

_SIDE = 64


def drawings(folder: Path) -> Tensor:
    """Return the emoji of the split `test` in colours, uint8, shape [N, 3, 64, 64]."""
    prepare(emoji.lines("test"), folder / "emoji", PrepareOptions(seed=None))
    dataset = ShardDataset(folder / "emoji")
    return torch.from_numpy(dataset.read(list(dataset.locations()), ["target"])["target"])


def held_out(folder: Path) -> Tensor:
    """Return the middle of each photograph, uint8, shape [N, 3, 64, 64]."""
    prepare(photos("test"), folder / "photos", PrepareOptions(seed=None))
    dataset = ShardDataset(folder / "photos")
    images = torch.from_numpy(dataset.read(list(dataset.locations()), ["image"])["image"])
    top, left = ((side - _SIDE) // 2 for side in images.shape[2:])
    return images[:, :, top : top + _SIDE, left : left + _SIDE].contiguous()


def telea(images: Tensor, holes: Tensor) -> Tensor:
    """Return uint8 images whose holes are filled by the method of Telea (2004); holes are bool, [N, 1, H, W]."""
    filled = [
        cv2.inpaint(
            np.ascontiguousarray(image.permute(1, 2, 0).numpy()), hole[0].numpy().astype(np.uint8), 3, cv2.INPAINT_TELEA
        )
        for image, hole in zip(images, holes, strict=True)
    ]
    return torch.from_numpy(np.stack(filled)).permute(0, 3, 1, 2)


@torch.inference_mode()
def main() -> None:
    """Print a table of all snapshots, and the differences."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", nargs="+")
    parser.add_argument("--coarse", nargs="+", default=[])
    parser.add_argument("--data", choices=("emoji", "photos"), default="emoji")
    parser.add_argument(
        "--picture", type=Path, help="PNG to write: holes, Telea, coarse if given, network, photograph."
    )
    given = parser.parse_args()
    extractor, distance = build_extractor("efficientnet-lite0", "fp32", CPU), build_distance("perceptual", CPU)
    with TemporaryDirectory() as folder:
        targets = (held_out if given.data == "photos" else drawings)(Path(folder))
    inputs = HolesConfig(kind="holes").compute(normalised(targets), Draws(0, torch.arange(len(targets)), "benchmark"))
    holes = inputs[:, -1:] < 0
    real, made = features_of(extractor, targets), dict[str, Tensor]()

    def scores_of(name: str, pixels: Tensor) -> dict[str, float]:
        made[name] = pixels
        difference = (pixels.double() - targets.double()).abs() * holes
        pairs = zip(normalised(pixels).split(32), normalised(targets).split(32), strict=True)
        found = {
            "l1": float(difference.sum() / (3 * holes.sum())),
            "fid": frechet_distance_of(real, features_of(extractor, pixels)),
            "perceptual": float(torch.cat([distance(one, other) for one, other in pairs]).mean()),
        }
        print(name, shown(found), flush=True)
        return found

    def scores_of_snapshot(snapshot: str) -> dict[str, float]:
        return scores_of(snapshot, pixels_of(bt.load(snapshot).apply(inputs, batch=32)))

    def scores_of_own_coarse(snapshot: str) -> None:
        network = bt.load(snapshot).snapshot.networks["G"]
        if getattr(network, "kind", "") == "gated_inpainter":
            made = [network.both(part)[0] for part in inputs.split(32)]
            scores_of(f"{snapshot}: its coarse stage", pixels_of(torch.cat(made)))

    print(f"{len(targets)} images, {float(holes.double().mean()):.1%} of their pixels in holes")
    pictures = pixels_of(inputs[:, :3])
    scores_of("holes left black", pictures)
    scores_of("smooth start", pixels_of(smoothly_filled(inputs[:, :3], holes)))
    by_telea = scores_of("Telea", telea(pictures, holes))
    ours, coarse = ([scores_of_snapshot(one) for one in these] for these in (given.network, given.coarse))
    for one in given.network:
        scores_of_own_coarse(one)
    if coarse and len(ours) == len(coarse):
        print_differences(ours, coarse, "network, coarse stage")
    print_differences(ours, [by_telea] * len(ours), "network, Telea")
    if given.picture:
        columns = [pictures, *(made[name] for name in ("Telea", *given.coarse[:1], given.network[0])), targets]
        sheet(columns, list(range(0, len(targets), len(targets) // 8))[:8]).save(given.picture)


if __name__ == "__main__":
    main()
