"""The share of fakes that are copies of reference images (one minus authenticity, Alaa et al. 2022, section 4)."""

import torch
from torch import Tensor

from bigtrain.evaluation.metrics.base import Metric, Need, Scores
from bigtrain.evaluation.metrics.blocks import distances, row_by_row
from bigtrain.evaluation.statistics.features import FeatureRows, Features


def memorisation_rate(reference: Tensor, generated: Tensor, neighbour: Tensor) -> float:
    """Return the share of fakes nearer to their nearest real image than that is to any other real one. Collective.

    Copies score 1, and so does all that is nearer to a real image than other real images are; `new_image_rate` tells
    what new real images score.

    Args:
        reference: features of the training images, shape [N, F].
        generated: features, shape [M, F].
        neighbour: of the reference, see `nearest_others`.
    """
    radii = (reference.double() - reference[neighbour].double()).square().sum(1).sqrt()

    def copied(rows: slice) -> Tensor:
        distance, nearest = distances(generated[rows], reference).min(1)
        return (distance < radii[nearest]).double()

    return float(row_by_row(len(generated), copied).mean())


def new_image_rate(neighbour: Tensor) -> float:
    """Return what `memorisation_rate` is of new real images: of each real image, against all the others.

    Without image i, its nearest neighbour's ball reaches as far as to that one's own nearest neighbour but i. So image
    i counts if and only if it is the nearest neighbour of its nearest neighbour. Of points that are spread evenly in d
    dimensions, 2/3 do for d = 1, 0.6215 for d = 2, and 1/2 in the limit (Clark 1955; Dacey 1969); of features, which
    lie unevenly, fewer: some images are the nearest ones of many.

    Args:
        neighbour: see `nearest_others`.
    """
    return float((neighbour[neighbour] == torch.arange(len(neighbour))).double().mean())


def nearest_others(features: Tensor) -> Tensor:
    """Return which other row is the nearest to each row of [N, F]: int64, shape [N]. Collective."""

    def nearest(rows: slice) -> Tensor:
        found = distances(features[rows], features)
        found[torch.arange(rows.stop - rows.start), torch.arange(rows.start, rows.stop)] = torch.inf
        return found.argmin(1).double()

    return row_by_row(len(features), nearest).long()


def _score(reference: Features, generated: Features) -> Scores:
    neighbour = nearest_others(reference.rows)
    return {
        "memorisation": memorisation_rate(reference.rows, generated.rows, neighbour),
        "memorisation_new": new_image_rate(neighbour),
    }


MEMORISATION = Metric(Need("pool", FeatureRows), _score, values=("memorisation", "memorisation_new"))
