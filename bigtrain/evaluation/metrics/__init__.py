"""Scores as functions of statistics of features; a new one is a new file and one line in the table below."""

from typing import Literal

from bigtrain.evaluation.metrics.base import Metric
from bigtrain.evaluation.metrics.fid import FID

MetricName = Literal["fid"]

METRICS: dict[MetricName, Metric] = {
    "fid": FID,
}
"""Every metric by its name in a config."""
