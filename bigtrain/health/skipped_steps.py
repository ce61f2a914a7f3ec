"""Which optimizer steps were skipped since somebody last looked."""

from copy import copy

import torch
from torch import Tensor

from bigtrain.core.state import Progress


class SkippedSteps:
    """Keeps on the device what the device says of each optimizer step, so that no step waits for it."""

    def __init__(self) -> None:
        self._steps: list[tuple[str, Progress, Tensor]] = []

    def add(self, phase: str, progress: Progress, skipped: Tensor) -> None:
        """Add an optimizer step.

        Args:
            phase: its name.
            progress: where the run is.
            skipped: 1 where the gradient was not finite and the optimizer left the weights as they were, else 0.
        """
        self._steps.append((phase, copy(progress), skipped))

    def read(self) -> list[tuple[str, Progress, bool]]:
        """Return each phase, where it was, and whether it was skipped; waits for the device, and starts afresh."""
        steps, self._steps = self._steps, []
        flags = torch.stack([flag for *_, flag in steps]).tolist() if steps else []
        return [(phase, where, bool(flag)) for (phase, where, _), flag in zip(steps, flags, strict=True)]
