"""How Ray's questions reach the referee, without a Ray cluster."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from launch.sweep.adapters import AskReferee, ObeyReferee


@dataclass
class Recorder:
    """A referee that says what it is told to."""

    answers: list[str]
    heard: list[tuple[Any, ...]] = field(default_factory=list)

    def next_trial(self) -> str:
        return self.answers.pop(0)

    def started(self, number: int, host: str) -> None:
        self.heard.append(("started", number, host))

    def hear(self, number: int, scores: Sequence[Mapping[str, Any]], *, at_boundary: bool = False) -> Any:
        self.heard.append(("hear", number, len(scores), at_boundary))
        return self.answers.pop(0) if self.answers else "go"

    def may_run(self, number: int) -> bool:
        return number == 2

    def end(self, number: int, state: str, why: str = "") -> None:
        self.heard.append(("end", number, state, why))


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

    def get_trials(self) -> list[Trial]:
        return self.trials


def result(**facts: Any) -> dict[str, Any]:
    return {"number": 1, "host": "n1", "scores": [], "boundary": False, "ended": None, "why": "", **facts}


def test_the_searcher_hands_on_what_the_referee_proposes() -> None:
    searcher = AskReferee(Recorder(["/a/trial-000.json", "wait", "over"]), 2.0)  # type: ignore[arg-type]
    assert searcher.suggest("x") == {"spec": "/a/trial-000.json", "cores": 2.0}
    assert searcher.suggest("y") is None
    assert searcher.suggest("z") == "FINISHED"


@pytest.mark.parametrize(("said", "done"), [("go", "CONTINUE"), ("stop", "STOP"), ("pause", "PAUSE")])
def test_the_scheduler_does_what_the_referee_says(said: str, done: str) -> None:
    referee = Recorder([said])
    scheduler = ObeyReferee(referee)  # type: ignore[arg-type]
    assert scheduler.on_trial_result(None, Trial(1), result(scores=[{}], boundary=said == "pause")) == done
    assert referee.heard == [("started", 1, "n1"), ("hear", 1, 1, said == "pause")]


def test_the_end_of_a_trial_is_told() -> None:
    referee = Recorder([])
    scheduler = ObeyReferee(referee)  # type: ignore[arg-type]
    scheduler.on_trial_complete(None, Trial(1), result(scores=[{}], ended="complete"))
    scheduler.on_trial_complete(None, Trial(1), result())  # the referee itself has stopped it
    scheduler.on_trial_error(None, Trial(1, "ERROR"))
    scheduler.on_trial_error(None, Trial(2, "ERROR"))  # it is about to be tried again
    assert referee.heard == [
        ("hear", 1, 1, False),
        ("end", 1, "complete", ""),
        ("end", 1, "failed", "trial-001: rank 1 was killed by SIGKILL"),
    ]


def test_who_waits_runs_when_the_referee_lets_it() -> None:
    scheduler = ObeyReferee(Recorder([]))  # type: ignore[arg-type]
    paused = [Trial(1, "PAUSED"), Trial(2, "PAUSED")]
    assert scheduler.choose_trial_to_run(Controller(paused)) is paused[1]
    assert scheduler.choose_trial_to_run(Controller(paused[:1])) is None
    pending = Trial(3, "PENDING")
    assert scheduler.choose_trial_to_run(Controller([*paused, pending])) is pending
