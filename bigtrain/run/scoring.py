"""The evaluations of a run: scores are reported, and the best networks are kept."""

import time
from collections.abc import Mapping

from bigtrain.checkpoint import Checkpoints
from bigtrain.core import stop
from bigtrain.core.state import Progress
from bigtrain.evaluation.in_training import Evaluations
from bigtrain.evaluation.outputs import MakeOutputs
from bigtrain.evaluation.protocol import as_json
from bigtrain.generate.writer import SnapshotWriter
from bigtrain.run.log import RunLog


class Scoring:
    """Evaluates the averaged networks of a run when that is due.

    Args:
        evaluations: which, when.
        make: makes what is scored.
        snapshots: takes the best networks.
        checkpoints: keep the checkpoint that belongs to them.
        progress: of the run.
        log: records the scores.

    Attributes:
        scores: of the last evaluation.
    """

    def __init__(
        self,
        evaluations: Evaluations,
        make: MakeOutputs,
        snapshots: SnapshotWriter,
        checkpoints: Checkpoints,
        progress: Progress,
        log: RunLog,
    ) -> None:
        self._evaluations, self._make, self._snapshots = evaluations, make, snapshots
        self._checkpoints, self._progress, self._log = checkpoints, progress, log
        self._due: list[str] = []
        self.scores: Mapping[str, float] = {}

    def due(self, progress: Progress) -> bool:
        """Tell whether an evaluation is due after the step just taken. Collective."""
        self._due = list(self._evaluations.due(progress))
        return bool(self._due)

    @property
    def unfinished(self) -> bool:
        """Whether a stop has broken evaluations off at this place of the run."""
        return bool(self._evaluations.unfinished)

    def evaluate(self) -> None:
        """Do the evaluations that are due. Collective."""
        began = time.perf_counter()
        scores, better = self._evaluations.run(
            self._due, self._make, self._progress, stop=lambda: stop.received() is not None
        )
        if better:
            self._checkpoints.note_best()
            self._log.snapshot("best", self._snapshots.write_best(scores=as_json(scores)))
        replaced = self._evaluations.replaced()
        self.scores = self._log.scores(scores, replaced=replaced, better=better, seconds=time.perf_counter() - began)

    def finish(self) -> None:
        """Do the evaluations that a stop has broken off. Collective."""
        self._due = list(self._evaluations.unfinished)
        self.evaluate()

    def snapshot(self) -> None:
        """Write a snapshot, with the scores of its networks as far as there are any. Collective."""
        self._snapshots.write(scores=as_json(self._evaluations.scores_at(self._progress)))
