import torch

from bigtrain.core.state import Progress
from bigtrain.health.skipped_steps import SkippedSteps


def test_moves_are_told_once_with_their_place() -> None:
    steps, progress = SkippedSteps(), Progress(100, 10)
    assert steps.read() == []
    steps.add("d_main", progress, torch.tensor(0.0))
    progress.advance()
    steps.add("g_main", progress, torch.tensor(1.0))
    found = steps.read()
    assert [(phase, where.samples_seen, skipped) for phase, where, skipped in found] == [
        ("d_main", 0, False),
        ("g_main", 10, True),
    ]
    assert steps.read() == []
