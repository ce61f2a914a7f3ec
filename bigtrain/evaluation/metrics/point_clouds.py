"""Scores of sets of point clouds by the distances between clouds (Achlioptas et al. 2018; Yang et al. 2019).

Minimum matching distance (MMD), coverage (Achlioptas et al., section 2) and the accuracy of a 1-nearest-neighbour
classifier that tells generated from real clouds (1-NNA; Lopez-Paz & Oquab 2017; Yang et al. 2019, PointFlow, section
5.1), each with the Chamfer distance and with the earth mover's distance (EMD).
"""

from collections.abc import Callable

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from bigtrain.distributed.collectives import sum_over_ranks
from bigtrain.evaluation.extractors.values import POINTS
from bigtrain.evaluation.metrics.base import Metric, Need, Scores
from bigtrain.evaluation.statistics.features import FeatureRows, Features

MOST_CLOUDS = 2000
"""Clouds of a side: every cloud is compared with every other one."""

ASSIGNED_POINTS = 256
"""Points of a cloud that the EMD is computed on: the time of an assignment grows with the cube of their number."""

Clouds = NDArray[np.float64]
"""Shape [clouds, points, 3]."""

Distances = Callable[[Clouds], Tensor]
"""Maps K clouds to the distances between every two of them, float64, shape [K, K]. Collective."""


def chamfer_distances(clouds: Clouds) -> Tensor:
    """Return the mean squared distance to the nearest point of the other cloud, the sum of both directions."""
    from scipy.spatial import cKDTree  # not needed by runs of other kinds

    every = clouds.reshape(-1, 3)

    def column(number: int) -> Tensor:
        distance, _ = cKDTree(clouds[number]).query(every, workers=torch.get_num_threads())
        return torch.from_numpy(np.square(distance).reshape(clouds.shape[:2]).mean(1))

    directed = _by_columns(len(clouds), column)
    return directed + directed.t()


def earth_movers_distances(clouds: Clouds) -> Tensor:
    """Return the mean distance of the points under the best one-to-one assignment of the points of two clouds.

    Of clouds with more points, a random choice of `ASSIGNED_POINTS` is compared, which is the same whenever the cloud
    has the same number.
    """
    from scipy.optimize import linear_sum_assignment
    from scipy.spatial.distance import cdist

    chosen = np.stack([_some_points(cloud, number) for number, cloud in enumerate(clouds)])

    def column(number: int) -> Tensor:
        found = torch.zeros(len(chosen), dtype=torch.float64)
        for other in range(number):
            lengths = cdist(chosen[number], chosen[other])
            found[other] = lengths[linear_sum_assignment(lengths)].mean()
        return found

    above = _by_columns(len(chosen), column)
    return above + above.t()


def set_scores(distances: Tensor, real: int) -> dict[str, float]:
    """Return MMD, coverage and 1-NNA.

    MMD is the mean, over the real clouds, of the distance to the nearest generated one. Coverage is the share of the
    real clouds that are the nearest one of a generated cloud. 1-NNA is computed on equally many clouds of both sides,
    the first ones; 0.5 is the best value: above it, the sets can be told apart, and below it, generated clouds lie
    closer to real ones than real ones do.

    Args:
        distances: between every two clouds, shape [K, K]; the real ones come first.
        real: number of real clouds.
    """
    between = distances[:real, real:]
    even = min(real, len(distances) - real)
    both = torch.cat([torch.arange(even), torch.arange(real, real + even)])
    others = distances[both][:, both].clone().fill_diagonal_(torch.inf)
    is_real = both < real
    return {
        "mmd": float(between.min(1).values.mean()),
        "coverage": len(set(between.argmin(0).tolist())) / real,
        "1nna": float((is_real[others.argmin(1)] == is_real).double().mean()),
    }


def _by_columns(count: int, column: Callable[[int], Tensor]) -> Tensor:
    """Return the matrix [count, count] whose columns the ranks share. Collective."""
    matrix = torch.zeros(count, count, dtype=torch.float64)
    for number in range(dist.get_rank(), count, dist.get_world_size()):
        matrix[:, number] = column(number)
    return sum_over_ranks(matrix)


def _some_points(cloud: NDArray[np.float64], number: int) -> NDArray[np.float64]:
    """Return some points of a cloud, chosen at random: a generator may make one part of a shape with its first ones."""
    if len(cloud) <= ASSIGNED_POINTS:
        return cloud
    return cloud[np.random.default_rng(number).choice(len(cloud), ASSIGNED_POINTS, replace=False)]


def _metric(name: str, distances: Distances, settings: str) -> Metric:
    def score(reference: Features, generated: Features) -> Scores:
        rows = torch.cat([reference.rows, generated.rows]).double().numpy()
        found = set_scores(distances(rows.reshape(len(rows), -1, 3)), reference.count)
        return {f"{name}_{value}": number for value, number in found.items()}

    return Metric(
        Need(POINTS, FeatureRows),
        score,
        most=MOST_CLOUDS,
        values=(f"{name}_mmd", f"{name}_coverage", f"{name}_1nna"),
        contrary=(f"{name}_coverage",),
        settings=settings,
    )


CHAMFER = _metric("chamfer", chamfer_distances, "mean squared distances, both directions added")
EMD = _metric("emd", earth_movers_distances, f"mean distance of {ASSIGNED_POINTS} points")
