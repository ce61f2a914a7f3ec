"""Fréchet distance inside each class, and its mean over the classes: intra-FID (Miyato & Koyama 2018, section 4)."""

import torch
import torch.distributed as dist
from torch import Tensor

from bigtrain.distributed.collectives import sum_over_ranks
from bigtrain.evaluation.errors import EvaluationError
from bigtrain.evaluation.metrics.base import Metric, Need, Scores
from bigtrain.evaluation.metrics.fid import frechet_distance_of
from bigtrain.evaluation.statistics.features import FeatureRows, Features

LEAST = 2
"""Images of a class on either side."""


def class_distances(reference: Features, generated: Features) -> Tensor:
    """Return the Fréchet distance of each class, float64, shape [classes]. Collective; the ranks share the classes.

    Raises:
        EvaluationError: the images have no classes, or too few of some.
    """
    counts = [_per_class(side) for side in (reference, generated)]
    classes = max(map(len, counts))
    if not classes:
        raise EvaluationError("scores of classes need images with classes")
    few = [c for c in range(classes) if any(c >= len(side) or side[c] < LEAST for side in counts)]
    if few:
        raise EvaluationError(f"scores of classes need {LEAST} images of each on either side; class {few[0]} has fewer")
    values = torch.zeros(classes, dtype=torch.float64)
    for number in range(dist.get_rank(), classes, dist.get_world_size()):
        rows = [side.rows[side.label == number] for side in (reference, generated)]
        values[number] = frechet_distance_of(*rows)
    return sum_over_ranks(values)


def _per_class(side: Features) -> list[int]:
    counts: list[int] = side.label[side.label >= 0].bincount().tolist()
    return counts


def _intra(reference: Features, generated: Features) -> Scores:
    return {"intra_fid": float(class_distances(reference, generated).mean())}


def _each(reference: Features, generated: Features) -> Scores:
    values: list[float] = class_distances(reference, generated).tolist()
    return {f"class_fid_{number}_": value for number, value in enumerate(values)}


INTRA_FID = Metric(Need("pool", FeatureRows), _intra, lowest=0, is_distance=True, by_class=True)
CLASS_FID = Metric(Need("pool", FeatureRows), _each, lowest=0, is_distance=True, by_class=True)
