"""What decides on trials, as this room sees it."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

Verdict = Literal["go", "stop", "pause"]


class Referee(Protocol):
    """Says which trial is next, listens to scores, and says who goes on."""

    def next_trial(self) -> str:
        """Return the file that tells how to run the next trial; `wait` if there is none yet, `over` if no more."""
        ...

    def started(self, number: int, host: str) -> None:
        """Take note that a trial runs, and where."""
        ...

    def hear(self, number: int, scores: Sequence[Mapping[str, Any]], *, at_boundary: bool = False) -> Verdict:
        """Take note of a trial's new scores, and decide."""
        ...

    def may_run(self, number: int) -> bool:
        """Tell whether a trial that was paused may go on."""
        ...

    def end(self, number: int, state: Literal["complete", "stopped", "failed"], why: str = "") -> None:
        """Take note that a trial has ended."""
        ...
