"""Whether a discriminator pays: translators scored on held-out places as a set, in pairs, and by a classifier.

    .venv/bin/python benchmarks/translation.py WITH_D... --without L1_ALONE...

The arguments are snapshots of `configs/translation/pix2pix-earth64.yaml`, one a seed and in the same order. The
held-out places are `bigtrain data prepare earth DIR --split test`, which is done here: five bands of longitude. All
features are those of EfficientNet-Lite0. The classifier is a logistic regression that tells real satellite pictures
from made ones: it learns on four bands and is tested on the fifth, each band in turn, so that it never saw the place.
50 % means that it cannot tell. Intervals are of Student's t over the differences between runs of one seed.
"""

import argparse
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import torch.nn.functional as F
from scipy.stats import t as student_t
from torch import Tensor

import bigtrain as bt
from bigtrain.evaluation.distances import build_distance
from bigtrain.evaluation.extractors import build_extractor
from bigtrain.evaluation.extractors.base import Extractor
from bigtrain.evaluation.image_pairs import psnr
from bigtrain.evaluation.metrics.fid import frechet_distance_of
from data_pipelines.prepare import earth
from data_pipelines.prepare.run import PrepareOptions, prepare
from data_pipelines.read import ShardDataset

CPU = torch.device("cpu")


def held_out(folder: Path) -> tuple[Tensor, Tensor, Tensor]:
    """Return inputs and targets, uint8, and the band that each lies in."""
    source = earth.relief("test")
    prepare(source, folder / "earth", PrepareOptions(seed=None))
    dataset = ShardDataset(folder / "earth")
    fields = dataset.read(list(dataset.locations()), ["input", "target"])
    bands = torch.tensor(
        [float(item.name.split()[1][:-1]) * (-1 if item.name[-1] == "W" else 1) for item in source.items]
    )
    return torch.from_numpy(fields["input"]), torch.from_numpy(fields["target"]), ((bands + 180) // 20).long()


def normalised(images: Tensor) -> Tensor:
    """Return uint8 images in [-1, 1]."""
    return images.float() / 127.5 - 1


def pixels_of(images: Tensor) -> Tensor:
    """Return images in [-1, 1] as uint8."""
    return ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


@torch.inference_mode()
def features_of(extractor: Extractor, images: Tensor) -> Tensor:
    """Return features, float64, shape [N, F]."""
    return torch.cat([extractor(part)["pool"] for part in images.split(32)]).double()


def distinct_names(real: Tensor, made: Tensor, bands: Tensor) -> float:
    """Return how often a logistic regression is right about pictures of a band that it did not learn on."""
    right = []
    for band in bands.unique():
        seen, asked = bands != band, bands == band
        x, y = (
            torch.cat([real[seen], made[seen]]),
            torch.cat([torch.ones(int(seen.sum())), torch.zeros(int(seen.sum()))]),
        )
        mean, deviation = x.mean(0), x.std(0) + 1e-6
        weight, bias = _fitted((x - mean) / deviation, y.double())
        for features, is_real in ((real[asked], True), (made[asked], False)):
            right.append((((features - mean) / deviation @ weight + bias > 0) == is_real).double())
    return float(torch.cat(right).mean())


def _fitted(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Fit a logistic regression with a penalty of 0.01 on the squared weights."""
    weight, bias = torch.zeros(x.shape[1], dtype=x.dtype), torch.zeros((), dtype=x.dtype)
    for value in (weight, bias):
        value.requires_grad_()
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        found = F.binary_cross_entropy_with_logits(x @ weight + bias, y) + 0.01 * weight.square().sum()
        found.backward()
        return found

    optimizer.step(loss)
    return weight.detach(), bias.detach()


def interval(differences: Sequence[float]) -> str:
    """Return the mean of differences and its 95 % interval."""
    if len(differences) < 2:
        return f"{statistics.mean(differences):+.3f}"
    half = float(student_t.ppf(0.975, len(differences) - 1)) * statistics.stdev(differences) / len(differences) ** 0.5
    return f"{statistics.mean(differences):+.3f} ± {half:.3f}"


def shown(scores: Mapping[str, float]) -> dict[str, float]:
    """Round scores."""
    return {name: round(value, 4) for name, value in scores.items()}


def print_differences(ours: Sequence[Mapping[str, float]], theirs: Sequence[Mapping[str, float]], names: str) -> None:
    """Print the means and the differences of scores, one a seed; `names` are those of both sides: `with D, without`."""
    one_name, other_name = names.split(", ")
    for key in ours[0]:
        differences = [one[key] - other[key] for one, other in zip(ours, theirs, strict=True)]
        one, other = (statistics.mean(scores[key] for scores in these) for these in (ours, theirs))
        print(f"{key}: {one_name} {one:.4f}, {other_name} {other:.4f}, difference {interval(differences)}")


@torch.inference_mode()
def main() -> None:
    """Print a table of all snapshots, and the differences."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("with_d", nargs="+", metavar="WITH_D")
    parser.add_argument("--without", nargs="+", required=True, metavar="L1_ALONE")
    given = parser.parse_args()
    extractor, distance = build_extractor("efficientnet-lite0", "fp32", CPU), build_distance("perceptual", CPU)
    with TemporaryDirectory() as folder:
        inputs, targets, bands = held_out(Path(folder))
    real = features_of(extractor, targets)

    def scores_of(snapshot: str) -> dict[str, float]:
        pixels = pixels_of(bt.load(snapshot).apply(normalised(inputs), batch=32))
        features = features_of(extractor, pixels)
        pairs = zip(normalised(pixels).split(32), normalised(targets).split(32), strict=True)
        with torch.inference_mode(False):
            accuracy = distinct_names(real.clone(), features.clone(), bands)
        found = {
            "fid": frechet_distance_of(real, features),
            "told apart": accuracy,
            "perceptual": float(torch.cat([distance(one, other) for one, other in pairs]).mean()),
            "psnr": float(psnr(pixels, targets).mean()),
        }
        print(snapshot, shown(found), flush=True)
        return found

    print(f"{len(inputs)} places")
    ours, theirs = ([scores_of(snapshot) for snapshot in these] for these in (given.with_d, given.without))
    print_differences(ours, theirs, "with D, without")


if __name__ == "__main__":
    main()
