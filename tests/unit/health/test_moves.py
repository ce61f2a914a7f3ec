import torch
from bigtrain.health.moves import Moves

from bigtrain.core.state import Progress


def test_moves_are_told_once_with_their_place() -> None:
    moves, progress = Moves(), Progress(100, 10)
    assert moves.read() == []
    moves.add("d_main", progress, torch.tensor(0.0))
    progress.advance()
    moves.add("g_main", progress, torch.tensor(1.0))
    found = moves.read()
    assert [(phase, where.samples_seen, skipped) for phase, where, skipped in found] == [
        ("d_main", 0, False),
        ("g_main", 10, True),
    ]
    assert moves.read() == []
