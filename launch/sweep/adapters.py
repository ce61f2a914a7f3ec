"""Let Ray Tune ask the referee: a searcher, a scheduler and a stopper that hold no state of their own."""

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ray.tune import Stopper
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from launch.sweep.referee import Referee

if TYPE_CHECKING:
    from ray.tune.execution.tune_controller import TuneController


class AskReferee(Searcher):  # type: ignore[misc]
    """Proposes the trials that the referee hands out.

    Args:
        referee: see there.
        cores: that each trial has.
    """

    def __init__(self, referee: Referee, cores: float) -> None:
        super().__init__()
        self._referee, self._cores = referee, cores

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """See Searcher."""
        spec = self._referee.next_trial()
        if spec == "over":
            return str(Searcher.FINISHED)
        return None if spec == "wait" else {"spec": spec, "cores": self._cores}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """See Searcher: the scheduler has told the referee."""

    def save(self, checkpoint_path: str) -> None:
        """See Searcher: the journal has everything."""

    def restore(self, checkpoint_path: str) -> None:
        """See Searcher."""

    def __getstate__(self) -> dict[str, Any]:
        """Leave the referee out of what Ray writes down."""
        return {}


class ObeyReferee(FIFOScheduler):  # type: ignore[misc]
    """Lets trials go on, stop, or wait, as the referee says.

    Args:
        referee: see there.
    """

    def __init__(self, referee: Referee) -> None:
        super().__init__()
        self._referee = referee
        self._numbers: dict[str, int] = {}

    def on_trial_result(self, tune_controller: "TuneController", trial: Trial, result: Mapping[str, Any]) -> str:
        """See TrialScheduler."""
        number = self._numbers[trial.trial_id] = int(result["number"])
        self._referee.started(number, str(result["host"]))
        said = self._referee.hear(number, result["scores"], at_boundary=bool(result["boundary"]))
        answers: dict[str, str] = {"go": self.CONTINUE, "stop": self.STOP, "pause": self.PAUSE}
        return answers[said]

    def on_trial_complete(self, tune_controller: "TuneController", trial: Trial, result: Mapping[str, Any]) -> None:
        """See TrialScheduler: the last result comes here alone."""
        if result.get("ended"):
            number = int(result["number"])
            self._referee.hear(number, result["scores"])
            self._referee.end(number, result["ended"], str(result["why"]))

    def on_trial_error(self, tune_controller: "TuneController", trial: Trial) -> None:
        """See TrialScheduler: it failed, once too often unless Ray is about to try again."""
        if trial.status == Trial.ERROR and trial.should_recover():
            return
        number = _number_of(trial)
        error = trial.get_error()
        told = str(error).strip().splitlines() if error else []
        self._referee.end(number, "failed", told[-1][:300] if told else "failed")

    def choose_trial_to_run(self, tune_controller: "TuneController") -> Trial | None:
        """See TrialScheduler."""
        trials = tune_controller.get_trials()
        for trial in trials:
            if trial.status == Trial.PENDING:
                return trial
        for trial in trials:
            if trial.status == Trial.PAUSED and self._referee.may_run(_number_of(trial)):
                return trial
        return None

    def save(self, checkpoint_path: str) -> None:
        """See TrialScheduler: the journal has everything."""

    def restore(self, checkpoint_path: str) -> None:
        """See TrialScheduler."""

    def __getstate__(self) -> dict[str, Any]:
        """Leave the referee out of what Ray writes down."""
        return {}


class StopWhen(Stopper):  # type: ignore[misc]
    """Stops all trials, which then save, once somebody asks for it or time is up.

    Args:
        asked: tells whether somebody asked.
        hours: that trials may run; None for no limit.
    """

    def __init__(self, asked: Callable[[], bool], hours: float | None) -> None:
        self._asked = asked
        self._until = None if hours is None else time.monotonic() + 3600 * hours

    def __call__(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        """See Stopper."""
        return False

    def stop_all(self) -> bool:
        """See Stopper."""
        return self._asked() or (self._until is not None and time.monotonic() > self._until)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out of what Ray writes down what cannot be."""
        return {"_asked": None, "_until": None}


def _number_of(trial: Trial) -> int:
    """Return a trial's number, which its file is named by: `…/trial-003.json`."""
    return int(str(trial.config["spec"]).rsplit("-", 1)[1].split(".")[0])
