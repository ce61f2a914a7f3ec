"""The checkpoints of a run: saved when due, reported once they are on disk."""

from pathlib import Path

from bigtrain.checkpoint import Checkpoints
from bigtrain.core.state import Progress
from bigtrain.run.examination import Examination
from bigtrain.run.log import RunLog


class Saving:
    """Saves a run's state.

    Args:
        checkpoints: write and read it.
        examination: tells whether a checkpoint is one to come back to.
        progress: of the run.
        log: records each checkpoint.
    """

    def __init__(self, checkpoints: Checkpoints, examination: Examination, progress: Progress, log: RunLog) -> None:
        self._checkpoints, self._examination, self._progress, self._log = checkpoints, examination, progress, log
        self._saved_at: int | None = None

    def load(self, *, keep_one: bool) -> Path | None:
        """Go on from the newest checkpoint, if there is one; `keep_one` makes one where there is none. Collective."""
        loaded = self._checkpoints.load_latest()
        if not loaded and keep_one:
            self._checkpoints.save(self._progress)
        return loaded

    def save(self) -> None:
        """Write a checkpoint while training goes on. Collective."""
        self._examination.read_skipped()
        self.wait()
        self._checkpoints.save(self._progress, healthy=self._examination.healthy)
        self._log.metrics({"time/checkpoint_s": self._checkpoints.blocked_s})
        self._saved_at = self._progress.samples_seen

    def save_if_news(self) -> None:
        """Write a checkpoint unless there is one of this place of the run. Collective."""
        if self._saved_at != self._progress.samples_seen:
            self.save()

    def wait(self) -> None:
        """Wait until the last checkpoint is written, and report it. Collective."""
        if written := self._checkpoints.wait():
            self._log.tracker.log_checkpoint(written)

    @property
    def failed(self) -> bool:
        """Whether the writing has failed by now; ranks learn of it at different moments."""
        return self._checkpoints.failed
