"""The reaction to a collapse of the training: go on, stop, or return to a healthy checkpoint."""

from collections.abc import Callable

from bigtrain.checkpoint import Checkpoints
from bigtrain.core.logging import log
from bigtrain.core.state import Progress
from bigtrain.health.health import HealthConfig
from bigtrain.health.health_monitor import HealthMonitor
from bigtrain.health.recovery import Recovery
from bigtrain.run.log import RunLog


class Rollback:
    """Reacts to a collapse, in the same way on all ranks.

    Args:
        config: what to do.
        monitor: tells of a collapse.
        recovery: counts rollbacks, and slows learning after each.
        checkpoints: to return to.
        progress: of the run.
        log: records the rollback.
        returned: called after the state of a checkpoint was loaded.

    Attributes:
        stopped_by: what made this stop the run; None where it did not.
    """

    def __init__(
        self,
        config: HealthConfig,
        monitor: HealthMonitor,
        recovery: Recovery,
        checkpoints: Checkpoints,
        progress: Progress,
        log: RunLog,
        *,
        returned: Callable[[], None],
    ) -> None:
        self._config, self._monitor, self.recovery = config, monitor, recovery
        self._checkpoints, self._progress, self._log, self._returned = checkpoints, progress, log, returned
        self.stopped_by: str | None = None

    def due(self, progress: Progress) -> bool:
        """Tell whether training has collapsed and is to go back; if it is to stop for it, note why."""
        health = self._monitor.health
        if health.collapse is None or (self._config.on_collapse == "report" and not health.at_standstill):
            return False
        if self._config.on_collapse == "rollback" and self.recovery.rollbacks < self._config.max_rollbacks:
            return True
        self.stopped_by = health.collapse
        self._monitor.write_report(self.recovery, progress)
        log.info("kimg %-7.1f health: stopping, %s", progress.kimg, health.collapse)
        return False

    def act(self) -> None:
        """Return to the last healthy checkpoint, to go on from there slower and with other noise. Collective."""
        collapse, begun = str(self._monitor.health.collapse), self._progress.samples_seen
        rollbacks = self.recovery.rollbacks
        path = self._checkpoints.return_to_healthy()
        self.recovery.rollbacks = rollbacks + 1
        self._returned()
        self._log.tracker.roll_back(collapse, begun, self._progress)
        self._log.journal.note("rollback", self._progress, reason=collapse, begun_kimg=begun / 1000)
        self._log.metrics({"health/rollbacks": float(self.recovery.rollbacks)})
        self._checkpoints.save(self._progress)
        if written := self._checkpoints.wait():  # a crash must not undo it
            self._log.tracker.log_checkpoint(written)
        self._monitor.write_report(self.recovery, self._progress)
        self._log.restart_clock()
        log.info(
            "kimg %-7.1f health: returned to %s with %g times the learning rates (%s)",
            *(begun / 1000, path, self.recovery.lr_factor, collapse),
        )
