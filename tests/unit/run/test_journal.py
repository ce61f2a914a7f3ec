"""What a run tells of itself when it is started again."""

import logging
from pathlib import Path

import pytest
from torch import nn

from bigtrain.config import TrackingConfig
from bigtrain.core.state import Progress
from bigtrain.models.layers.conditional_batch_norm import BatchNorm
from bigtrain.models.layers.spectral import SpectralConv2d, WeightStyle
from bigtrain.run.journal import Journal
from bigtrain.tracking.tracker import Tracker


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    """That of a run that began with two micro-batches a step."""
    tracker = Tracker(TrackingConfig(mlflow=False), tmp_path, active=False)
    journal = Journal(tmp_path, tracker, active=True)
    journal.begin(Progress(1000, 16), None, world_size=2, micro_batches=2)
    return journal


@pytest.mark.parametrize("network", [BatchNorm(4), SpectralConv2d(4, 4, 1)])
def test_another_cut_of_the_batch_is_told_where_it_matters(
    journal: Journal, network: nn.Module, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        journal.compare_cut(16, 4, [nn.Sequential(network)])
    assert "4 micro-batches a step instead of 2" in caplog.text
    assert "micro_batch=8 --allow-config-change continues as before" in caplog.text


def test_nothing_is_told_where_it_does_not_matter(journal: Journal, caplog: pytest.LogCaptureFixture) -> None:
    plain = SpectralConv2d(4, 4, 1, style=WeightStyle(spectral=False))
    with caplog.at_level(logging.WARNING):
        journal.compare_cut(16, 4, [plain])
        journal.compare_cut(16, 8, [BatchNorm(4)])
        journal.compare_cut(16, 16, [])
    assert caplog.text == ""
