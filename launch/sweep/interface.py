"""What Ray Tune's adapters need of the object that decides on trials."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

Decision = Literal["continue", "stop", "pause"]


class TrialScheduler(Protocol):
    """Proposes trials and decides which of them go on; see `bigtrain.sweep.trial_scheduler`."""

    def next_trial(self) -> str:
        """Return the path of the next trial's specification; `wait` if there is none yet, `finished` after the last."""
        ...

    def on_start(self, number: int, host: str) -> None:
        """Record that a trial is running on a host."""
        ...

    def on_result(self, number: int, scores: Sequence[Mapping[str, Any]], *, at_boundary: bool = False) -> Decision:
        """Record a trial's new scores, and decide whether it goes on."""
        ...

    def may_resume(self, number: int) -> bool:
        """Return whether a paused trial may go on."""
        ...

    def has_ended(self, number: int) -> bool:
        """Return whether a trial is complete, stopped or failed."""
        ...

    def on_end(self, number: int, state: Literal["complete", "stopped", "failed"], why: str = "") -> None:
        """Record that a trial has ended."""
        ...
