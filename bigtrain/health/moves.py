"""The players' moves since somebody last looked, and which of them were skipped."""

from copy import copy

import torch
from torch import Tensor

from bigtrain.core.state import Progress


class Moves:
    """Keeps what the device says of each move on the device, so that no step waits for it."""

    def __init__(self) -> None:
        self._moves: list[tuple[str, Progress, Tensor]] = []

    def add(self, phase: str, progress: Progress, skipped: Tensor) -> None:
        """Add a move.

        Args:
            phase: its name.
            progress: where the run is.
            skipped: 1 where the gradient was not finite and the optimizer left the weights as they were, else 0.
        """
        self._moves.append((phase, copy(progress), skipped))

    def read(self) -> list[tuple[str, Progress, bool]]:
        """Return each phase, where it was, and whether it was skipped; waits for the device, and starts afresh."""
        moves, self._moves = self._moves, []
        flags = torch.stack([flag for *_, flag in moves]).tolist() if moves else []
        return [(phase, where, bool(flag)) for (phase, where, _), flag in zip(moves, flags, strict=True)]
