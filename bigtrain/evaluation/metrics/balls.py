"""Balls around features, each of which reaches to its k-th nearest neighbour: an estimate of where images can lie."""

from collections.abc import Callable

import torch
from torch import Tensor

from bigtrain.evaluation.metrics.base import Metric, Need, Scores
from bigtrain.evaluation.metrics.blocks import distances, row_by_row
from bigtrain.evaluation.statistics.features import FeatureRows, Features


def neighbour_radii(features: Tensor, neighbours: int) -> Tensor:
    """Return each row's distance to its k-th nearest other row, float64, shape [N]. Collective."""

    def radius(rows: slice) -> Tensor:
        found = distances(features[rows], features)
        found[torch.arange(rows.stop - rows.start), torch.arange(rows.start, rows.stop)] = torch.inf
        return found.kthvalue(neighbours, dim=1).values

    return row_by_row(len(features), radius)


def ball_metric(
    compute: Callable[[Tensor, Tensor, int], tuple[float, float]], values: tuple[str, str], neighbours: int
) -> Metric:
    """Return a metric of two values, for both of which more is better.

    Args:
        compute: maps features of reference [N, F] and generated images [M, F], and k, to the values.
        values: their names.
        neighbours: k.
    """

    def score(reference: Features, generated: Features) -> Scores:
        return dict(zip(values, compute(reference.rows, generated.rows, neighbours), strict=True))

    return Metric(
        Need("pool", FeatureRows),
        score,
        least=neighbours + 1,
        better="higher",
        values=values,
        settings=f"k={neighbours}",
    )
