"""The trainable of Ray Tune: a training run of several ranks in the bundle of a placement group.

Ray calls `step` repeatedly; each call waits a moment and reports new scores. The run folder holds all state: a trial
that is started again, on any node, continues from its newest checkpoint.
"""

import json
import os
import time
from pathlib import Path
from typing import Any

from ray import tune

from launch.slurm.client import SlurmSilentError
from launch.sweep.jobs import SlurmJob
from launch.sweep.ranks import LocalRanks, TrialRanks, newest_checkpoint_kimg, stopped_by
from launch.sweep.scores import ScoreReader

_PULSE_SECONDS = 2.0
"""Maximum duration of a call of `step`, during which Ray cannot stop the trial."""
_POLL_SECONDS = 0.2
_STOPPED, _MISTAKE = 3, 2
"""Exit codes, see docs/how-to/operations.md."""


class RunTrial(tune.Trainable):  # type: ignore[misc]
    """Runs the trial that is specified by the file `config["spec"]`."""

    def setup(self, config: dict[str, Any]) -> None:
        """See Trainable."""
        self._spec: dict[str, Any] = json.loads(Path(config["spec"]).read_text())
        self._folder = Path(self._spec["folder"])
        self._reader = ScoreReader(self._folder, self._spec["metric"], self._spec["samples"])
        self._ranks: TrialRanks | None = None
        self._cores = float(config["cores"])

    def step(self) -> dict[str, Any]:
        """See Trainable.

        Returns:
            `number`, `host`, `scores`, `samples_seen`; `boundary`: whether the ranks have stopped to wait for the other
            trials; `ended` and `done` when the trial has ended.

        Raises:
            RuntimeError: the ranks failed; Ray retries the trial.
        """
        boundary = self._spec["stop_at_kimg"]
        # A run that something else stopped at the boundary may not have been evaluated there.
        waits = self._ranks is None and stopped_by(self._folder) == "request"
        if boundary is not None and waits and newest_checkpoint_kimg(self._folder) >= boundary:
            return self._result(boundary=True)
        if self._ranks is None:
            try:
                self._ranks = _start(self._spec, self._cores)
            except SlurmSilentError:  # which says nothing about the trial
                return self._result()
        until = time.monotonic() + _PULSE_SECONDS
        while time.monotonic() < until:
            code = self._ranks.poll()
            if code is not None:
                return self._ended(code, self._ranks.why())
            if scores := self._reader.read():
                return self._result(scores=scores)
            time.sleep(_POLL_SECONDS)
        return self._result()

    def cleanup(self) -> None:
        """See Trainable. Returns when the ranks have ended, since Ray then gives their resources to another trial."""
        if self._ranks is not None:
            self._ranks.stop()

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any] | None:
        """See Trainable. The run folder has checkpoints of its own."""
        return {"folder": str(self._folder)}

    def load_checkpoint(self, checkpoint: Any) -> None:
        """See Trainable."""

    def _ended(self, code: int, why: str) -> dict[str, Any]:
        self._ranks = None
        if code == 0:
            return self._result(ended="complete", done=True)
        if code == _MISTAKE:
            return self._result(ended="failed", why=why, done=True)
        by = stopped_by(self._folder) if code == _STOPPED else None
        if by == "request" and self._spec["stop_at_kimg"] is not None:
            return self._result(boundary=True)
        if by is not None and not by.startswith(("SIG", "request", "the loss")):
            return self._result(ended="failed", why=f"stopped: {by}", done=True)
        raise RuntimeError(f"{self._spec['name']}: {why}")

    def _result(self, scores: list[dict[str, Any]] | None = None, **facts: Any) -> dict[str, Any]:
        scores = self._reader.read() if scores is None else scores
        known = {"number": self._spec["number"], "host": _host(), "scores": scores}
        known["samples_seen"] = self._reader.samples_seen
        return {**known, "boundary": False, "ended": None, "why": "", "done": False, **facts}


def _host() -> str:
    """Return the node's name; on nodes that Slurm simulates on one host, only Slurm knows it."""
    return os.environ.get("SLURMD_NODENAME") or os.uname().nodename


def _start(spec: dict[str, Any], cores: float) -> TrialRanks:
    return SlurmJob(spec) if spec["backend"]["kind"] == "slurm" else LocalRanks(spec, cores=cores)
