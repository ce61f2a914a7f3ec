"""Scores as functions of statistics of features; a new one is a new file and one line in the table below."""

from typing import Literal

from bigtrain.evaluation.metrics.base import Metric
from bigtrain.evaluation.metrics.class_fid import CLASS_FID, INTRA_FID
from bigtrain.evaluation.metrics.density_coverage import DENSITY_COVERAGE
from bigtrain.evaluation.metrics.fid import FID, SFID
from bigtrain.evaluation.metrics.inception_score import INCEPTION_SCORE
from bigtrain.evaluation.metrics.kid import KID
from bigtrain.evaluation.metrics.memorisation import MEMORISATION
from bigtrain.evaluation.metrics.mmd import MMD
from bigtrain.evaluation.metrics.precision_recall import PRECISION_RECALL

MetricName = Literal[
    "fid",
    "sfid",
    "kid",
    "inception_score",
    "precision_recall",
    "density_coverage",
    "mmd",
    "memorisation",
    "intra_fid",
    "class_fid",
]

METRICS: dict[MetricName, Metric] = {
    "fid": FID,
    "sfid": SFID,
    "kid": KID,
    "inception_score": INCEPTION_SCORE,
    "precision_recall": PRECISION_RECALL,
    "density_coverage": DENSITY_COVERAGE,
    "mmd": MMD,
    "memorisation": MEMORISATION,
    "intra_fid": INTRA_FID,
    "class_fid": CLASS_FID,
}
"""Every metric of features by its name in a config."""
