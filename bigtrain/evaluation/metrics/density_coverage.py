"""Density and coverage (Naeem et al. 2020, section 3): precision and recall that outliers do not lift."""

import torch
from torch import Tensor

from bigtrain.distributed.collectives import sum_over_ranks
from bigtrain.evaluation.metrics.balls import ball_metric, neighbour_radii
from bigtrain.evaluation.metrics.blocks import distances, my_blocks


def density_coverage(reference: Tensor, generated: Tensor, neighbours: int) -> tuple[float, float]:
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


DENSITY_COVERAGE = ball_metric(density_coverage, ("density", "coverage"), neighbours=5)
