"""How far a GPU has come with what the host gave it to do.

The host runs ahead of a GPU: where a kernel hangs, the host is found waiting somewhere later, for example in a copy
between two steps. An event that the host records at each place of the training tells where the GPU itself is.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch


class Event(Protocol):
    """The part of `torch.cuda.Event` that is used."""

    def record(self) -> None:
        """Take place after all that the current stream was given so far."""

    def query(self) -> bool:
        """Tell whether it has taken place, without waiting."""


@dataclass(frozen=True)
class Place:
    """Where a GPU is.

    Attributes:
        where: what the host reported when it began to give the GPU this work.
        limit: seconds that the work may take.
        since: when the GPU was first seen there, by `time.monotonic`.
    """

    where: str
    limit: float
    since: float

    @property
    def overdue(self) -> bool:
        """Whether the work takes too long."""
        return time.monotonic() - self.since > self.limit


class DeviceProgress:
    """Follows a GPU from place to place; `mark` is for the thread that trains, `place` for the one that watches.

    Args:
        make_event: makes an event of the current device.
    """

    def __init__(self, make_event: Callable[[], Event] = torch.cuda.Event) -> None:
        self._make_event = make_event
        self._marks: deque[tuple[str, float, Event]] = deque()
        self._place: Place | None = None
        self.reached = 0

    def mark(self, where: str, limit: float) -> None:
        """Note that the work that is launched from here on belongs to `where`; costs microseconds."""
        event = self._make_event()
        event.record()
        self._marks.append((where, limit, event))

    def place(self) -> Place | None:
        """Return where the GPU is, if the host has gone on to a later place; None where the GPU waits for the host.

        A GPU that has failed answers with an error, which the thread that trains meets as well: None.
        """
        try:
            while self._marks and self._marks[0][2].query():
                where, limit, _ = self._marks.popleft()
                self._place = Place(where, limit, time.monotonic())
                self.reached += 1
        except RuntimeError:
            return None
        return self._place if self._marks else None
