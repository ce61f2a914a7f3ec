"""The adapters to Ray Tune, without a Ray cluster."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from launch.sweep.adapters import TuneScheduler, TuneSearcher


@dataclass
class Recorder:
    """A trial scheduler that returns prepared answers and records the calls."""

    answers: list[str]
    calls: list[tuple[Any, ...]] = field(default_factory=list)

    def next_trial(self) -> str:
        return self.answers.pop(0)

    def on_start(self, number: int, host: str) -> None:
        self.calls.append(("start", number, host))

    def on_result(self, number: int, scores: Sequence[Mapping[str, Any]], *, at_boundary: bool = False) -> Any:
        self.calls.append(("result", number, len(scores), at_boundary))
        return self.answers.pop(0) if self.answers else "continue"

    def may_resume(self, number: int) -> bool:
        return number == 2

    def has_ended(self, number: int) -> bool:
        return number == 4

    def on_end(self, number: int, state: str, why: str = "") -> None:
        self.calls.append(("end", number, state, why))


@dataclass
class Trial:
    number: int
    status: str = "RUNNING"

    @property
    def trial_id(self) -> str:
        return f"id{self.number}"

    @property
    def config(self) -> dict[str, str]:
        return {"spec": f"/runs/my-sweep/trial-{self.number:03}.json"}

    def should_recover(self) -> bool:
        return self.number == 2

    def get_error(self) -> Exception:
        return RuntimeError("first\ntrial-001: rank 1 was killed by SIGKILL")


@dataclass
class Controller:
    trials: list[Trial]

    stopped: list[Trial] = field(default_factory=list)

    def get_trials(self) -> list[Trial]:
        return self.trials

    def stop_trial(self, trial: Trial) -> None:
        self.stopped.append(trial)


def result(**facts: Any) -> dict[str, Any]:
    return {"number": 1, "host": "n1", "scores": [], "boundary": False, "ended": None, "why": "", **facts}


def test_the_searcher_suggests_what_the_trial_scheduler_proposes() -> None:
    searcher = TuneSearcher(Recorder(["/a/trial-000.json", "wait", "finished"]), 2.0)  # type: ignore[arg-type]
    assert searcher.suggest("x") == {"spec": "/a/trial-000.json", "cores": 2.0}
    assert searcher.suggest("y") is None
    assert searcher.suggest("z") == "FINISHED"


@pytest.mark.parametrize(("decision", "answer"), [("continue", "CONTINUE"), ("stop", "STOP"), ("pause", "PAUSE")])
def test_ray_does_what_the_trial_scheduler_decides(decision: str, answer: str) -> None:
    recorder = Recorder([decision])
    scheduler = TuneScheduler(recorder)  # type: ignore[arg-type]
    assert scheduler.on_trial_result(None, Trial(1), result(scores=[{}], boundary=decision == "pause")) == answer
    assert recorder.calls == [("start", 1, "n1"), ("result", 1, 1, decision == "pause")]


def test_the_end_of_a_trial_is_recorded() -> None:
    recorder = Recorder([])
    scheduler = TuneScheduler(recorder)  # type: ignore[arg-type]
    scheduler.on_trial_complete(None, Trial(1), result(scores=[{}], ended="complete"))
    scheduler.on_trial_complete(None, Trial(1), result())  # the scheduler itself has stopped it
    scheduler.on_trial_error(None, Trial(1, "ERROR"))
    scheduler.on_trial_error(None, Trial(2, "ERROR"))  # it is about to be tried again
    assert recorder.calls == [
        ("result", 1, 1, False),
        ("end", 1, "complete", ""),
        ("end", 1, "failed", "trial-001: rank 1 was killed by SIGKILL"),
    ]


def test_a_paused_trial_runs_when_it_may_resume() -> None:
    scheduler = TuneScheduler(Recorder([]))  # type: ignore[arg-type]
    paused = [Trial(1, "PAUSED"), Trial(2, "PAUSED")]
    assert scheduler.choose_trial_to_run(Controller(paused)) is paused[1]
    assert scheduler.choose_trial_to_run(Controller(paused[:1])) is None
    controller = Controller([Trial(4, "PAUSED"), *paused])
    assert scheduler.choose_trial_to_run(controller) is paused[1]
    assert controller.stopped == controller.trials[:1]  # the trial scheduler has ended it while it was paused
    pending = Trial(3, "PENDING")
    assert scheduler.choose_trial_to_run(Controller([*paused, pending])) is pending
