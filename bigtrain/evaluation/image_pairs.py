"""Scores of images against their own targets, for image-to-image; a new one is a line in the table below."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from bigtrain.distributed.collectives import from_all_ranks, sum_over_ranks
from bigtrain.distributed.init import Ranks
from bigtrain.evaluation.distances import FeatureDistance
from bigtrain.evaluation.errors import EvaluationError
from bigtrain.evaluation.extraction import check_faults
from bigtrain.evaluation.images import Images
from bigtrain.evaluation.metrics.base import Scores

PairMetricName = Literal["psnr", "ssim", "lpips", "perceptual"]
HIGHER_IS_BETTER = frozenset({"psnr", "ssim"})

_PEAK = 255.0
_ROUNDING = 1 / 12
"""Mean squared error of rounding to whole levels."""

_K1, _K2 = 0.01, 0.03
_WINDOW, _SIGMA = 11, 1.5


def psnr(image: Tensor, target: Tensor) -> Tensor:
    """Return the peak signal-to-noise ratio in dB, float64, shape [N].

    It is 58.9 dB at most, where the error is that of rounding to 8 bits: a mean over images stays finite when a network
    reproduces one of them exactly.

    Args:
        image: uint8, shape [N, C, H, W].
        target: likewise.
    """
    error = (image.double() - target.double()).square().mean((1, 2, 3))
    return 10 * torch.log10(_PEAK**2 / error.clamp(min=_ROUNDING))


def ssim(image: Tensor, target: Tensor) -> Tensor:
    """Return the mean structural similarity (Wang et al. 2004, eq. 13), float64, shape [N].

    The window is their Gaussian of 11x11 pixels with a deviation of 1.5, where it lies inside the image; channels are
    averaged.

    Args:
        image: uint8, shape [N, C, H, W], at least 11 pixels a side.
        target: likewise.
    """
    x, y = image.double().flatten(0, 1)[:, None], target.double().flatten(0, 1)[:, None]
    mean_x, mean_y, xx, yy, xy = (_blurred(part) for part in (x, y, x * x, y * y, x * y))
    variance_x, variance_y, covariance = xx - mean_x**2, yy - mean_y**2, xy - mean_x * mean_y
    c1, c2 = (_K1 * _PEAK) ** 2, (_K2 * _PEAK) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * covariance + c2) / (variance_x + variance_y + c2)
    return (luminance * structure).mean((1, 2, 3)).reshape(image.shape[:2]).mean(1)


def _between(distance: FeatureDistance, image: Tensor, target: Tensor) -> Tensor:
    found: Tensor = distance(image.float() / 127.5 - 1, target.float() / 127.5 - 1)
    return found


def _blurred(x: Tensor) -> Tensor:
    place = torch.arange(_WINDOW, dtype=x.dtype, device=x.device) - _WINDOW // 2
    weight = torch.softmax(-(place**2) / (2 * _SIGMA**2), 0)
    return F.conv2d(F.conv2d(x, weight.reshape(1, 1, -1, 1)), weight.reshape(1, 1, 1, -1))


def _why_no_pairs(metrics: Sequence[PairMetricName], one: Tensor, other: Tensor) -> str | None:
    if one.shape != other.shape:
        shapes = " and ".join("x".join(map(str, side.shape[1:])) for side in (one, other))
        return f"images of {shapes} cannot be compared as pairs"
    if "ssim" in metrics and min(one.shape[2:]) < _WINDOW:
        return f"ssim needs images of {_WINDOW} pixels or more a side"
    return None


@torch.inference_mode()
def score_pairs(
    metrics: Sequence[PairMetricName],
    images: Images,
    targets: Images,
    ranks: Ranks,
    *,
    distances: Mapping[str, FeatureDistance],
    batch: int,
) -> Scores:
    """Compare image i of one set with image i of the other; each pair is on exactly one rank. Collective.

    Args:
        metrics: which.
        images: what is scored.
        targets: what it should be.
        ranks: who shares the work.
        distances: for the metrics of their names.
        batch: pairs at once.

    Returns:
        Means over the pairs, by name.

    Raises:
        EvaluationError: the sets do not match, or some images cannot be read.
    """
    if len(images) != len(targets):
        raise EvaluationError(
            f"{images.name} has {len(images)} images, {targets.name} has {len(targets)}: they cannot be paired"
        )
    functions: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"psnr": psnr, "ssim": ssim}
    for name, distance in distances.items():
        functions[name] = partial(_between, distance)
    sums = torch.zeros(len(metrics), dtype=torch.float64)
    mine = torch.arange(len(images))[ranks.rank :: ranks.world_size]  # none, where there are more ranks
    problem: str | None = None
    for index in torch.split(mine, batch) if len(mine) else ():
        one, other = (side.read(index)[0].to(ranks.device) for side in (images, targets))
        if problem := _why_no_pairs(metrics, one, other):
            break
        sums += torch.stack([functions[name](one, other).double().sum().cpu() for name in metrics])
    problem = next(filter(None, from_all_ranks(problem)), None)  # a rank may have no pair, or no such one
    if problem is not None:
        raise EvaluationError(f"{images.name} and {targets.name}: {problem}")
    for side in (images, targets):
        check_faults(side)
    means = (sum_over_ranks(sums) / len(images)).tolist()
    return dict(zip(metrics, means, strict=True))
