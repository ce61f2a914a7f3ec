"""Improved precision and recall (Kynkäänniemi et al. 2019, section 2, eq. 1 to 3)."""

from torch import Tensor

from bigtrain.evaluation.metrics.balls import ball_metric, neighbour_radii
from bigtrain.evaluation.metrics.blocks import distances, row_by_row


def share_inside(points: Tensor, support: Tensor, radii: Tensor) -> float:
    """Return the share of points [N, F] that lie in the ball of some row of `support` [M, F]. Collective."""

    def inside(rows: slice) -> Tensor:
        return (distances(points[rows], support) <= radii).any(1).double()

    return float(row_by_row(len(points), inside).mean())


def precision_recall(reference: Tensor, generated: Tensor, neighbours: int) -> tuple[float, float]:
    """Return the share of fakes that could be real, and the share of reals that could be fakes. Collective.

    Args:
        reference: features, shape [N, F].
        generated: features, shape [M, F].
        neighbours: a ball reaches to the neighbour of this rank.
    """
    precision = share_inside(generated, reference, neighbour_radii(reference, neighbours))
    return precision, share_inside(reference, generated, neighbour_radii(generated, neighbours))


PRECISION_RECALL = ball_metric(precision_recall, ("precision", "recall"), neighbours=3)
