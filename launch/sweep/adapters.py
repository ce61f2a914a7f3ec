"""Adapters between Ray Tune and a `TrialScheduler`: a searcher, a scheduler and a stopper, which hold no state."""

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ray.tune import Stopper
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from launch.sweep.interface import TrialScheduler

if TYPE_CHECKING:
    from ray.tune.execution.tune_controller import TuneController


class _Stateless:
    """A searcher or a scheduler of Ray that saves nothing: the sweep's event log holds the state."""

    def save(self, checkpoint_path: str) -> None:
        """See Searcher and ray.tune.schedulers.TrialScheduler."""

    restore = save

    def __getstate__(self) -> dict[str, Any]:
        """Exclude the trial scheduler from what Ray pickles."""
        return {}


class TuneSearcher(_Stateless, Searcher):  # type: ignore[misc]
    """Suggests the trials that the trial scheduler proposes.

    Args:
        scheduler: the trial scheduler.
        cores: CPU cores of each trial.
    """

    def __init__(self, scheduler: TrialScheduler, cores: float) -> None:
        super().__init__()
        self._scheduler, self._cores = scheduler, cores

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """See Searcher."""
        spec = self._scheduler.next_trial()
        if spec == "finished":
            return str(Searcher.FINISHED)
        return None if spec == "wait" else {"spec": spec, "cores": self._cores}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """See Searcher. Does nothing: TuneScheduler has recorded it."""


class TuneScheduler(_Stateless, FIFOScheduler):  # type: ignore[misc]
    """Continues, stops or pauses trials as the trial scheduler decides.

    Args:
        scheduler: the trial scheduler.
    """

    def __init__(self, scheduler: TrialScheduler) -> None:
        super().__init__()
        self._scheduler = scheduler

    def on_trial_result(self, tune_controller: "TuneController", trial: Trial, result: Mapping[str, Any]) -> str:
        """See ray.tune.schedulers.TrialScheduler."""
        number = int(result["number"])
        self._scheduler.on_start(number, str(result["host"]))
        decision = self._scheduler.on_result(number, result["scores"], at_boundary=bool(result["boundary"]))
        answers: dict[str, str] = {"continue": self.CONTINUE, "stop": self.STOP, "pause": self.PAUSE}
        return answers[decision]

    def on_trial_complete(self, tune_controller: "TuneController", trial: Trial, result: Mapping[str, Any]) -> None:
        """See ray.tune.schedulers.TrialScheduler. Ray reports the last result of a trial only here."""
        if result.get("ended"):
            number = int(result["number"])
            self._scheduler.on_result(number, result["scores"])
            self._scheduler.on_end(number, result["ended"], str(result["why"]))

    def on_trial_error(self, tune_controller: "TuneController", trial: Trial) -> None:
        """See ray.tune.schedulers.TrialScheduler. The trial has failed, unless Ray is about to retry it."""
        if trial.status == Trial.ERROR and trial.should_recover():
            return
        error = trial.get_error()
        lines = str(error).strip().splitlines() if error else []
        self._scheduler.on_end(_number_of(trial), "failed", lines[-1][:300] if lines else "failed")

    def choose_trial_to_run(self, tune_controller: "TuneController") -> Trial | None:
        """See ray.tune.schedulers.TrialScheduler."""
        trials = tune_controller.get_trials()
        for trial in trials:
            if trial.status == Trial.PENDING:
                return trial
        for trial in trials:
            if trial.status == Trial.PAUSED and self._scheduler.has_ended(_number_of(trial)):
                tune_controller.stop_trial(trial)
            elif trial.status == Trial.PAUSED and self._scheduler.may_resume(_number_of(trial)):
                return trial
        return None


class StopOnRequest(Stopper):  # type: ignore[misc]
    """Stops all trials, which save their state, when a stop is requested or the time limit is reached.

    Args:
        requested: returns whether a stop was requested.
        hours: time limit; None for no limit.
    """

    def __init__(self, requested: Callable[[], bool], hours: float | None) -> None:
        self._requested = requested
        self._deadline = None if hours is None else time.monotonic() + 3600 * hours

    def __call__(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        """See Stopper."""
        return False

    def stop_all(self) -> bool:
        """See Stopper."""
        return self._requested() or (self._deadline is not None and time.monotonic() > self._deadline)

    def __getstate__(self) -> dict[str, Any]:
        """Exclude from what Ray pickles what cannot be pickled."""
        return {"_requested": None, "_deadline": None}


def _number_of(trial: Trial) -> int:
    """Return a trial's number, from the name of its specification: `…/trial-003.json`."""
    return int(str(trial.config["spec"]).rsplit("-", 1)[1].split(".")[0])
