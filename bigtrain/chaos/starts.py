"""Where a disturbed run goes on: the first steps after a start are to be of every kind.

A process takes its first step as no other: whatever it sets up or measures then must not show in the result. Lazy
terms are due in some steps only. Checkpoints at multiples of all their intervals would let each start meet all of them,
others none; so they come at odd multiples of half of that, where runs begin with and without them in turn.
"""

from collections import Counter
from pathlib import Path

from bigtrain.config import TrainingConfig
from bigtrain.core.state import Progress
from bigtrain.planning.counting import FakeRun, kind_of, period_of
from bigtrain.tracking.events import read_events


class Starts:
    """What the first steps of a run's starts compute.

    Args:
        config: of the run.

    Attributes:
        checkpoint_kimg: between the checkpoints of the disturbed run, about as often as the config says.
    """

    def __init__(self, config: TrainingConfig) -> None:
        run = FakeRun(config)
        self._task, self._batch = run.task, config.global_batch * run.task.batches_per_step
        self._total = round(config.total_kimg * 1000)
        self._kinds = ["+".join(kind) for kind in run.kinds()]
        steps, half = config.checkpoint.interval_kimg * 1000 / self._batch, max(period_of(run.task) // 2, 1)
        odd = 2 * max(round((steps / half - 1) / 2), 0) + 1
        self.checkpoint_kimg = odd * half * self._batch / 1000

    def met(self, run: Path) -> dict[str, int]:
        """Return how often the first step after a new start had each kind of phase: its name and the terms due."""
        resumed = [event["kimg"] for event in read_events(run) if event["event"] == "resumed"]
        found = Counter(kind for kimg in resumed for kind in self._at(round(1000 * kimg)))
        return {kind: found[kind] for kind in self._kinds}

    def _at(self, samples_seen: int) -> set[str]:
        progress = Progress(self._total, self._batch)
        progress.samples_seen = samples_seen
        return {"+".join(kind_of(phase)) for phase in self._task.phases(progress)}
