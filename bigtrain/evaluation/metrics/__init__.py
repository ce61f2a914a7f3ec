"""Scores as functions of statistics of features; a new one is a new file and one line in the table below."""

from collections.abc import Sequence
from typing import Annotated, Any

from bigtrain.core.names import NameOf
from bigtrain.evaluation.metrics.base import Metric
from bigtrain.evaluation.metrics.class_accuracy import CLASS_ACCURACY
from bigtrain.evaluation.metrics.class_fid import CLASS_FID, INTRA_FID
from bigtrain.evaluation.metrics.density_coverage import DENSITY_COVERAGE
from bigtrain.evaluation.metrics.fid import FID, SFID
from bigtrain.evaluation.metrics.inception_score import INCEPTION_SCORE
from bigtrain.evaluation.metrics.kid import KID, kid_of
from bigtrain.evaluation.metrics.memorisation import MEMORISATION
from bigtrain.evaluation.metrics.mmd import MMD
from bigtrain.evaluation.metrics.point_clouds import CHAMFER, EMD
from bigtrain.evaluation.metrics.precision_recall import PRECISION_RECALL
from data_pipelines.plugins import Registry


def _read(name: str, found: Any) -> tuple[str, Metric] | None:
    return (name, found) if isinstance(found, Metric) else None


METRICS: Registry[Metric] = Registry("bigtrain.metrics", "a Metric", _read)
"""Every metric of features by its name in a config; other packages add theirs by entry points of the group."""

METRICS.add(
    ("fid", FID),
    ("sfid", SFID),
    ("kid", KID),
    ("inception_score", INCEPTION_SCORE),
    ("precision_recall", PRECISION_RECALL),
    ("density_coverage", DENSITY_COVERAGE),
    ("mmd", MMD),
    ("memorisation", MEMORISATION),
    ("intra_fid", INTRA_FID),
    ("class_fid", CLASS_FID),
    ("class_accuracy", CLASS_ACCURACY),
    ("chamfer", CHAMFER),
    ("emd", EMD),
)

MetricName = Annotated[str, NameOf("metric", METRICS.keys)]
"""A name in the table."""


def choose(names: Sequence[MetricName], *, kid_subset_size: int | None = None) -> dict[str, Metric]:
    """Return metrics by their names.

    Args:
        names: in the table.
        kid_subset_size: images of each of KID's subsets; None for the usual 1,000.
    """
    own = {"kid": kid_of(kid_subset_size)} if kid_subset_size else {}
    return {name: own.get(name, METRICS[name]) for name in names}
