"""Write films of moving shapes of four classes of motion, for recipes of videos: across, circle, up and down, zoom.

python scripts/moving_shapes.py FOLDER [--side 64] [--frames 32] [--each 400] [--seed 0]

Each film is a file FOLDER/MOTION/NUMBER.mkv: lossless, 16 frames a second, of a disk, square or triangle in one of six
colours on a grey ground. Shape, colour, size, brightness of the ground, phase, speed and extent of the motion are
random; none of them tells the class. Every motion is periodic. No dataset is downloaded:
`bigtrain data prepare videos:FOLDER OUT --frames 16` makes a dataset of the films.
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_pipelines.fields.registry import find_kind
from data_pipelines.fields.spec import FieldSpec

MOTIONS = ("across", "circle", "upright", "zoom")
SHAPES = ("disk", "square", "triangle")
COLOURS = ((214, 60, 60), (240, 180, 50), (90, 180, 80), (60, 120, 220), (150, 80, 190), (240, 240, 240))
_RATE = 16
_FINE = 3
"""Each pixel is the mean of so many times so many points."""


def film(motion: str, side: int, frames: int, random: np.random.Generator) -> NDArray[np.uint8]:
    """Return a film of one shape that moves, uint8, shape [frames, 3, side, side].

    Args:
        motion: one of `MOTIONS`.
        side: of a frame in pixels.
        frames: how many.
        random: decides all but the motion.
    """
    shape = SHAPES[random.integers(len(SHAPES))]
    colour = np.array(COLOURS[random.integers(len(COLOURS))], dtype=np.float64)
    ground, size = random.uniform(10, 60), random.uniform(0.16, 0.24)
    extent, turns = random.uniform(0.18, 0.28), random.uniform(0.8, 1.2) * _RATE / 16
    phase, way = random.uniform(0, 2 * np.pi), random.choice([-1.0, 1.0])
    middle = random.uniform(0.45, 0.55, 2)
    pictures = []
    for number in range(frames):
        angle = phase + way * 2 * np.pi * turns * number / 16
        x, y = extent * np.cos(angle), extent * np.sin(angle)
        place = middle + {"across": [x, 0], "circle": [x, y], "upright": [0, y], "zoom": [0, 0]}[motion]
        scale = 1 + 0.5 * np.sin(angle) if motion == "zoom" else 1.0
        share = coverage(shape, side, place[0], place[1], size * scale)
        pictures.append(ground + share[None] * (colour[:, None, None] - ground))
    return np.stack(pictures).round().astype(np.uint8)


def coverage(shape: str, side: int, x: float, y: float, size: float) -> NDArray[np.float64]:
    """Return how much of each pixel a shape covers, shape [side, side].

    Args:
        shape: one of `SHAPES`.
        side: of the picture in pixels.
        x: middle of the shape from the left, as a share of the side.
        y: likewise from above.
        size: half of its width, as a share of the side.
    """
    points = (np.arange(side * _FINE) + 0.5) / (side * _FINE)
    across, down = np.meshgrid(points - x, points - y)
    if shape == "disk":
        inside = across**2 + down**2 < size**2
    elif shape == "square":
        inside = np.maximum(abs(across), abs(down)) < 0.9 * size
    else:
        inside = (down < size) & (down > 2 * abs(across) - size)
    return inside.reshape(side, _FINE, side, _FINE).mean((1, 3))


def main() -> None:
    """Write the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--side", type=int, default=64, help="of a frame in pixels")
    parser.add_argument("--frames", type=int, default=32, help="of a film")
    parser.add_argument("--each", type=int, default=400, help="films of each motion")
    parser.add_argument("--seed", type=int, default=0, help="another seed makes other films, such as a test set")
    options = parser.parse_args()
    spec = FieldSpec("video", (options.frames, 3, options.side, options.side), "uint8", rate=_RATE, codec="ffv1")
    for label, motion in enumerate(MOTIONS):
        folder = options.folder / motion
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(options.each):
            random = np.random.default_rng([options.seed, label, number])
            content = find_kind("video").encode(spec, film(motion, options.side, options.frames, random))
            (folder / f"{number:05d}.mkv").write_bytes(content)
    print(f"{options.folder}: {options.each} films of each of {', '.join(MOTIONS)}")


if __name__ == "__main__":
    main()
