"""Colourisation with a discriminator and without: held-out drawings as a set, in colourfulness, and in pairs.

    .venv/bin/python benchmarks/colourisation.py WITH_D... --without L1_ALONE... [--picture PNG]

The arguments are snapshots of `configs/translation/colour-emoji64.yaml`, one a seed and in the same order. The held-out
drawings are `bigtrain data prepare emoji-lines DIR --split test`, which is done here: concepts of groups that no
training drawing is of. Colourfulness is Hasler & Süsstrunk's (2003), the mean over drawings. All features are those of
EfficientNet-Lite0. Intervals are of Student's t over the differences between runs of one seed.
"""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from PIL import Image
from torch import Tensor
from translation import CPU, features_of, normalised, pixels_of, print_differences, shown

import bigtrain as bt
from bigtrain.evaluation.distances import build_distance
from bigtrain.evaluation.extractors import build_extractor
from bigtrain.evaluation.image_pairs import psnr
from bigtrain.evaluation.metrics.fid import frechet_distance_of
from bigtrain.ops.colour import lightness_of, neutral_of
from data_pipelines.prepare import emoji
from data_pipelines.prepare.run import PrepareOptions, prepare
from data_pipelines.read import ShardDataset


def held_out(folder: Path) -> Tensor:
    """Return the colour drawings, uint8."""
    prepare(emoji.lines("test"), folder / "emoji", PrepareOptions(seed=None))
    dataset = ShardDataset(folder / "emoji")
    return torch.from_numpy(dataset.read(list(dataset.locations()), ["target"])["target"])


def colourfulness(images: Tensor) -> Tensor:
    """Return M3 of uint8 images (Hasler & Süsstrunk 2003, section 7), shape [N]."""
    red, green, blue = images.double().flatten(2).unbind(1)
    axes = torch.stack([red - green, (red + green) / 2 - blue], 1)
    deviation, mean = axes.std(2, correction=0).norm(dim=1), axes.mean(2).norm(dim=1)
    return deviation + 0.3 * mean


def sheet(columns: list[Tensor], rows: list[int]) -> Image.Image:
    """Return some images of several sets, uint8, a column a set, twice as large."""
    picture = torch.cat([torch.cat([column[row] for column in columns], 2) for row in rows], 1)
    height, width = picture.shape[1:]
    return Image.fromarray(picture.permute(1, 2, 0).numpy()).resize((2 * width, 2 * height), Image.Resampling.NEAREST)


@torch.inference_mode()
def main() -> None:
    """Print a table of all snapshots, and the differences."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("with_d", nargs="+", metavar="WITH_D")
    parser.add_argument("--without", nargs="+", required=True, metavar="L1_ALONE")
    parser.add_argument("--picture", type=Path, help="PNG to write: grey, L1 alone, with D, target.")
    given = parser.parse_args()
    extractor, distance = build_extractor("efficientnet-lite0", "fp32", CPU), build_distance("perceptual", CPU)
    with TemporaryDirectory() as folder:
        targets = held_out(Path(folder))
    grey = normalised(pixels_of(neutral_of(normalised(targets))))
    real, made = features_of(extractor, targets), dict[str, Tensor]()

    def scores_of(name: str, pixels: Tensor) -> dict[str, float]:
        pairs = zip(normalised(pixels).split(32), normalised(targets).split(32), strict=True)
        found = {
            "fid": frechet_distance_of(real, features_of(extractor, pixels)),
            "colourfulness": float(colourfulness(pixels).mean()),
            "psnr": float(psnr(pixels, targets).mean()),
            "perceptual": float(torch.cat([distance(one, other) for one, other in pairs]).mean()),
            "lightness error": float((lightness_of(normalised(pixels)) - lightness_of(grey)).abs().mean()),
        }
        print(name, shown(found), flush=True)
        return found

    def scores_of_snapshot(snapshot: str) -> dict[str, float]:
        made[snapshot] = pixels_of(bt.load(snapshot).apply(grey, batch=32))
        return scores_of(snapshot, made[snapshot])

    print(f"{len(targets)} drawings")
    scores_of("targets", targets)
    scores_of("grey", pixels_of(grey).expand(-1, 3, -1, -1))
    ours, theirs = ([scores_of_snapshot(one) for one in these] for these in (given.with_d, given.without))
    print_differences(ours, theirs, "with D, without")
    if given.picture:
        columns = [pixels_of(grey).expand(-1, 3, -1, -1), made[given.without[0]], made[given.with_d[0]], targets]
        halves = [sheet(columns, list(range(start, len(targets), len(targets) // 8))[:8]) for start in (0, 20)]
        both = Image.new("RGB", (2 * halves[0].width, halves[0].height))
        for number, half in enumerate(halves):
            both.paste(half, (number * half.width, 0))
        both.save(given.picture)


if __name__ == "__main__":
    main()
