"""Where the wall time of a run went, over several lives."""

import time

import pytest

from bigtrain.run.goodput import TimeAccount, former_life, goodput_of, in_words


def beat(began: float, until: float, seen: int, **seconds: float) -> dict[str, object]:
    return {"samples_seen": seen, "time": until, "account": {"began": began, "seconds": seconds}}


FIRST = beat(0, 100, 8000, start=10, steps=80, data=4, evaluation=2, checkpoints=2)
SECOND = beat(110, 210, 14_000, start=10, steps=90)
THIRD = beat(260, 300, 16_000, start=10, steps=30)
EVENTS = [
    {"event": "start", "kimg": 0.0},
    {"event": "restart", "kimg": 8.0},
    {"event": "resumed", "kimg": 6.0, "lost_kimg": 2.0, **former_life(FIRST)},
    {"event": "stopped", "kimg": 14.0},
    {"event": "resumed", "kimg": 14.0, "lost_kimg": 0.0, **former_life(SECOND)},
]


def test_lives_that_broke_off_and_waits_are_counted() -> None:
    found = goodput_of(EVENTS, THIRD)
    assert found is not None
    assert found["wall_s"] == 300
    assert found["seconds"] == {
        "steps": 60 + 90 + 30,  # a quarter of the first life's steps was lost
        "start": 30,
        "data": 4,
        "evaluation": 2,
        "checkpoints": 2,
        "redone": 20,
        "queue": 50,
        "failures": 10,
        "other": 2,
    }
    assert found["share"] == pytest.approx(180 / 300)
    assert found["share_without_start"] == pytest.approx(180 / 270, abs=1e-4)
    assert in_words(found).startswith("60.0% of the time in steps that counted; queue 16.7%, start 10.0%, redone 6.7%")


def test_what_a_rollback_takes_back_was_in_vain() -> None:
    events = [{"event": "start", "kimg": 0.0}, {"event": "rollback", "kimg": 4.0, "begun_kimg": 8.0}]
    found = goodput_of(events, beat(0, 100, 12_000, steps=80, start=20))
    assert found is not None
    assert found["seconds"]["redone"] == pytest.approx(20)


def test_a_run_of_a_former_version_tells_nothing() -> None:
    assert goodput_of([{"event": "start", "kimg": 0.0}], {"samples_seen": 1, "time": 2.0}) is None
    assert goodput_of([], {}) is None


def test_time_is_counted_once() -> None:
    account = TimeAccount()
    with account.span("start"):
        pass
    with account.span("evaluate"), account.span("save"):
        time.sleep(0.02)
    with account.span("unknown"), account.span("train_step"):
        time.sleep(0.02)
    seconds = account.read()["seconds"]
    assert seconds["evaluation"] >= 0.02
    assert seconds["steps"] >= 0.02
    assert seconds["checkpoints"] == 0
    assert seconds["start"] > 0
