"""The agreement of all ranks to stop a run before its end."""

import math
from collections.abc import Callable

from bigtrain.core import stop
from bigtrain.core.state import Progress
from bigtrain.distributed.collectives import Vote
from bigtrain.distributed.joint_wait import JointWait
from bigtrain.run.rollback import Rollback
from bigtrain.run.saving import Saving
from bigtrain.run.scoring import Scoring


class Stopping:
    """Decides on all ranks alike whether a run stops before its end.

    Args:
        saving: a rank whose checkpoints fail asks to stop.
        scoring: an evaluation that was interrupted stops the run.
        rollback: a collapse may stop the run.
        progress: of the run.
        joint_wait: is told whether ranks begin the next step together.
        are_read: tells whether this rank's samples of the next two steps have been read.

    Attributes:
        stop_at: number of samples after which the run stops as after a signal.
    """

    def __init__(
        self,
        saving: Saving,
        scoring: Scoring,
        rollback: Rollback,
        progress: Progress,
        joint_wait: JointWait,
        are_read: Callable[[], bool],
    ) -> None:
        self._saving, self._scoring, self._rollback, self._progress = saving, scoring, rollback, progress
        self._joint_wait, self._are_read = joint_wait, are_read
        self._vote = Vote(2)
        self.stop_at = math.inf

    def agreed(self) -> bool:
        """Return whether the run stops now. Collective.

        A rank's own wish, after a signal or a failed write, counts one call later: in a step, a thousand ranks would
        wait 0.1 s for each other's answer. So does its answer whether samples have been read, which is therefore given
        for two steps ahead.
        """
        asked = stop.received() is not None or self._saving.failed  # who stops saves, and so learns that saving fails
        voted, self._joint_wait.together = self._vote.cast(asked, not self._are_read())
        known = self._scoring.unfinished or self._rollback.stopped_by is not None  # the same on all ranks already
        return voted or known or self._progress.samples_seen >= self.stop_at

    def settle(self) -> None:
        """Wait for the vote that was begun last. Collective."""
        self._vote.settle()
