"""The periodic events of a run, in one fixed order."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial

from bigtrain.core.state import Progress

Event = Callable[[], object]
Due = Callable[[Progress], object]
Span = Callable[[str], AbstractContextManager[object]]


def every(interval_kimg: float) -> Due:
    """Return what tells whether a step reached a multiple of an interval in thousands of images, or the run's end."""
    return lambda progress: progress.passed(interval_kimg)


class Calendar:
    """The events in their order, each with a name and a condition that says whether it is due.

    Args:
        entries: name, what tells whether the event is due, and the event.
        span: surrounds an event of this name.
    """

    def __init__(self, entries: Sequence[tuple[str, Due, Event]], span: Span) -> None:
        self._entries, self._span = entries, span

    def due(self, progress: Progress) -> Iterator[Event]:
        """Iterate over the events that are due after the step just taken; each is decided after those before it."""
        for name, is_due, event in self._entries:
            if is_due(progress):
                yield partial(self._within, name, event)

    def _within(self, name: str, event: Event) -> None:
        with self._span(name):
            event()
