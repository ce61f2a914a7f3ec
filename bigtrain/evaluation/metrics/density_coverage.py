"""Density and coverage (Naeem et al. 2020, section 3): precision and recall that outliers do not lift."""

import torch
from torch import Tensor

from bigtrain.distributed.collectives import sum_over_ranks
from bigtrain.evaluation.metrics.base import Metric, Need, Scores
from bigtrain.evaluation.metrics.blocks import distances, my_blocks, neighbour_radii
from bigtrain.evaluation.statistics.features import FeatureRows, Features

NEIGHBOURS = 5


def density_coverage(reference: Tensor, generated: Tensor, neighbours: int = NEIGHBOURS) -> tuple[float, float]:
    """Return how many real balls a fake lies in, over k; and the share of real balls with a fake in them. Collective.

    Args:
        reference: features, shape [N, F].
        generated: features, shape [M, F].
        neighbours: k; a ball reaches to the k-th nearest real neighbour.
    """
    radii = neighbour_radii(reference, neighbours)
    balls, covered = torch.zeros((), dtype=torch.float64), torch.zeros(len(reference), dtype=torch.float64)
    for rows in my_blocks(len(generated)):
        inside = distances(generated[rows], reference) <= radii
        balls += inside.sum()
        covered += inside.any(0)
    density = float(sum_over_ranks(balls)) / (neighbours * len(generated))
    return density, float((sum_over_ranks(covered) > 0).double().mean())


def _score(reference: Features, generated: Features) -> Scores:
    density, coverage = density_coverage(reference.rows, generated.rows)
    return {"density": density, "coverage": coverage}


DENSITY_COVERAGE = Metric(
    Need("pool", FeatureRows),
    _score,
    least=NEIGHBOURS + 1,
    better="higher",
    values=("density", "coverage"),
    settings=f"k={NEIGHBOURS}",
)
