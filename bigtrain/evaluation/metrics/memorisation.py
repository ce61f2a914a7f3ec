"""The share of fakes that are copies of reference images (one minus authenticity, Alaa et al. 2022, section 4)."""

from torch import Tensor

from bigtrain.evaluation.metrics.balls import neighbour_radii
from bigtrain.evaluation.metrics.base import Metric, Need, Scores
from bigtrain.evaluation.metrics.blocks import distances, row_by_row
from bigtrain.evaluation.statistics.features import FeatureRows, Features


def memorisation_rate(reference: Tensor, generated: Tensor) -> float:
    """Return the share of fakes nearer to their nearest real image than that is to any other real one. Collective.

    Real images that were not trained on score about 0.5, copies 1.

    Args:
        reference: features of the training images, shape [N, F].
        generated: features, shape [M, F].
    """
    radii = neighbour_radii(reference, 1)

    def copied(rows: slice) -> Tensor:
        distance, nearest = distances(generated[rows], reference).min(1)
        return (distance < radii[nearest]).double()

    return float(row_by_row(len(generated), copied).mean())


def _score(reference: Features, generated: Features) -> Scores:
    return {"memorisation": memorisation_rate(reference.rows, generated.rows)}


MEMORISATION = Metric(Need("pool", FeatureRows), _score)
