"""Super-resolution of held-out photographs: networks compared with baselines and with bicubic enlargement.

    .venv/bin/python benchmarks/restoration.py NETWORK... --baseline BASELINE... [--scale 2] [--picture PNG]

The arguments are snapshots of `configs/translation/srgan-photos64.yaml` (x4) or of `configs/translation/esrgan-
photos64.yaml` (`--scale 2`), one a seed and in the same order. Their baseline is the same network trained with L1
alone, as the recipe tells. That of a blind network, trained with L1 and `'data.derived.input={kind: restoration,
scale: 4}'`, is the same one trained on clean reductions. The held-out photographs are `bigtrain data prepare photos
DIR --split test`, prepared here, and reduced with two rounds of damage and without any, by the sample's number. PSNR
is the mean over photographs, the perceptual distance and FID are of EfficientNet-Lite0's features. Intervals are of
Student's t over the differences between runs of one seed.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from colourisation import sheet
from inpainting import held_out
from torch import Tensor
from translation import CPU, features_of, normalised, pixels_of, print_differences, shown

import bigtrain as bt
from bigtrain.augment.derived.base import DerivedField
from bigtrain.augment.derived.restoration import RestorationConfig
from bigtrain.augment.derived.sizes import DownscaleConfig, resized
from bigtrain.core.rng import Draws
from bigtrain.evaluation.distances import build_distance
from bigtrain.evaluation.extractors import build_extractor
from bigtrain.evaluation.image_pairs import psnr
from bigtrain.evaluation.metrics.fid import frechet_distance_of

_INPUTS: dict[str, Callable[[int], DerivedField]] = {
    "degraded": lambda scale: RestorationConfig(kind="restoration", scale=scale),
    "clean": lambda scale: DownscaleConfig(kind="downscale", scale=scale),
}


@torch.inference_mode()
def main() -> None:
    """Print a table of all snapshots on both kinds of inputs, and the differences."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", nargs="+")
    parser.add_argument("--baseline", nargs="+", required=True)
    parser.add_argument("--scale", type=int, default=4)
    parser.add_argument("--inputs", choices=_INPUTS, default="degraded", help="What --picture shows.")
    parser.add_argument("--picture", type=Path, help="PNG to write: bicubic, baseline, network, photograph.")
    given = parser.parse_args()
    extractor, distance = build_extractor("efficientnet-lite0", "fp32", CPU), build_distance("perceptual", CPU)
    with TemporaryDirectory() as folder:
        targets = held_out(Path(folder))
    real, size = features_of(extractor, targets), (targets.shape[2], targets.shape[3])
    print(f"{len(targets)} photographs")

    def scores_of(name: str, pixels: Tensor) -> dict[str, float]:
        pairs = zip(normalised(pixels).split(32), normalised(targets).split(32), strict=True)
        found = {
            "psnr": float(psnr(pixels, targets).mean()),
            "perceptual": float(torch.cat([distance(one, other) for one, other in pairs]).mean()),
            "fid": frechet_distance_of(real, features_of(extractor, pixels)),
        }
        print(name, shown(found), flush=True)
        return found

    for name, derived in _INPUTS.items():
        inputs = derived(given.scale).compute(normalised(targets), Draws(0, torch.arange(len(targets)), "benchmark"))
        bicubic = pixels_of(resized(inputs, size, "bicubic").clamp(-1, 1))
        enlarged = scores_of(f"{name}: bicubic", bicubic)
        made = {one: pixels_of(bt.load(one).apply(inputs, batch=32)) for one in (*given.network, *given.baseline)}
        ours, theirs = (
            [scores_of(f"{name}: {one}", made[one]) for one in these] for these in (given.network, given.baseline)
        )
        print_differences(ours, theirs, f"{name}: network, baseline")
        for these, what in ((ours, "network"), (theirs, "baseline")):
            print_differences(these, [enlarged] * len(these), f"{name}: {what}, bicubic")
        if given.picture and name == given.inputs:
            columns = [bicubic, made[given.baseline[0]], made[given.network[0]], targets]
            sheet(columns, list(range(0, len(targets), len(targets) // 8))[:8]).save(given.picture)


if __name__ == "__main__":
    main()
