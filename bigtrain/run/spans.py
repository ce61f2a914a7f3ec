"""Spans around the parts of a run's steps, for the profile, the watchdog and the count of operations."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from bigtrain.core.state import Progress
from bigtrain.distributed.watchdog import Watchdog
from bigtrain.engine.player import Phase
from bigtrain.engine.step import Spans
from bigtrain.run.profiling import Profiler
from bigtrain.run.usage import Usage


class RunSpans(Spans):
    """Times, counts and watches the parts of a step.

    Args:
        profile: takes the time of each phase.
        watchdog: gets a beat for each micro-batch.
        usage: counts the operations of each phase.
        progress: of the run.
    """

    def __init__(self, profile: Profiler, watchdog: Watchdog, usage: Usage, progress: Progress) -> None:
        self._profile, self._watchdog, self._usage, self._progress = profile, watchdog, usage, progress

    @contextmanager
    def phase(self, phase: Phase) -> Iterator[None]:
        """See Spans."""
        self._usage.take(phase, self._progress)
        with self._profile.span(phase.name):
            yield

    def micro_batch(self, phase: Phase) -> AbstractContextManager[None]:
        """See Spans."""
        self._watchdog.beat(phase.name)
        return nullcontext()
