"""Kernel inception distance (Bińkowski et al. 2018, section 4): an unbiased squared MMD over subsets."""

import math

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from bigtrain.distributed.collectives import sum_over_ranks
from bigtrain.evaluation.metrics.base import Metric, Need, Scores
from bigtrain.evaluation.noise import kid_influence
from bigtrain.evaluation.statistics.features import FeatureRows, Features

SUBSETS, SUBSET_SIZE = 100, 1000
_COMPARED = 2000
"""Real images that are enough to tell the noise of the generated ones."""
_SEED = 2020
"""torch-fidelity's: the subsets are drawn in its order, so that the scores are the same."""


def kernel_distances(
    reference: Tensor, generated: Tensor, subsets: int = SUBSETS, size: int = SUBSET_SIZE, seed: int = _SEED
) -> Tensor:
    """Return the squared MMD of each pair of subsets, float64, shape [subsets]. Collective; the ranks share them.

    Args:
        reference: features, shape [N, F].
        generated: features, shape [M, F].
        subsets: how many pairs.
        size: images of each.
        seed: of the choice.
    """
    random = np.random.RandomState(seed)
    values = torch.zeros(subsets, dtype=torch.float64)
    for number in range(subsets):
        ours, theirs = (random.choice(len(side), size, replace=False) for side in (generated, reference))
        if number % dist.get_world_size() == dist.get_rank():
            values[number] = squared_mmd(generated[ours].double(), reference[theirs].double())
    return sum_over_ranks(values)


def squared_mmd(one: Tensor, other: Tensor) -> Tensor:
    """Return the unbiased squared MMD of the kernel (x.y / F + 1)^3 between rows [n, F] and [n, F] (eq. 4)."""
    count, features = one.shape
    ours, theirs, between = ((a @ b.t() / features + 1) ** 3 for a, b in ((one, one), (other, other), (one, other)))
    inside = sum(kernel.sum() - kernel.diagonal().sum() for kernel in (ours, theirs))
    return inside / (count * (count - 1)) - 2 * between.mean()


def _influence(reference: Features, generated: Features, rows: Tensor) -> Tensor:
    return kid_influence(reference.rows[:_COMPARED], rows)


def _error_of_subsets(scores: Scores) -> float:
    """Return the standard error of a mean over subsets, which other images would be drawn into."""
    return scores["kid_std"] / math.sqrt(SUBSETS)


def kid_of(subset_size: int = SUBSET_SIZE) -> Metric:
    """Return the metric with subsets of another size, which its protocol tells.

    An unbiased estimate is below 0 about as often as above where the sets are equally distributed.
    """

    def score(reference: Features, generated: Features) -> Scores:
        values = kernel_distances(reference.rows, generated.rows, size=subset_size)
        return {"kid": float(values.mean()), "kid_std": float(values.std(correction=0))}

    return Metric(
        Need("pool", FeatureRows),
        score,
        least=subset_size,
        with_fewer="take smaller subsets: --kid-subset-size N, or eval.kid_subset_size",
        is_distance=True,
        settings=f"{SUBSETS} subsets of {subset_size}",
        influence=_influence,
        own_error=_error_of_subsets,
    )


KID = kid_of()
