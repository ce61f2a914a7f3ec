"""What surrounds the parts of a run's steps: the profile, the watchdog, the counts of operations and memory."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from bigtrain.distributed.watchdog import Watchdog
from bigtrain.engine.player import Phase
from bigtrain.engine.step import Spans
from bigtrain.run.load import Load
from bigtrain.run.profiling import Profile
from bigtrain.run.usage import Usage


class RunSpans(Spans):
    """Times, counts and watches the parts of a step.

    Args:
        profile: takes the time of each phase.
        watchdog: is told of each micro-batch.
        usage: counts the operations of each micro-batch.
        load: measures the memory of each loss.
    """

    def __init__(self, profile: Profile, watchdog: Watchdog, usage: Usage, load: Load) -> None:
        self._profile, self._watchdog, self._usage, self._load = profile, watchdog, usage, load

    def phase(self, phase: Phase) -> AbstractContextManager[None]:
        """See Spans."""
        return self._profile.span(phase.name)

    @contextmanager
    def micro_batch(self, phase: Phase, *, last: bool) -> Iterator[None]:
        """See Spans."""
        self._watchdog.beat(phase.name)
        with self._usage.counting(phase, last=last):
            yield

    def forward(self, phase: Phase) -> AbstractContextManager[None]:
        """See Spans."""
        return self._load.forward(phase.name)
