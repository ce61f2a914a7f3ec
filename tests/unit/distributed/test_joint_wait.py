"""Ranks as threads, which share a store as the ranks of a run do."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from torch._C._distributed_c10d import HashStore

from bigtrain.core import stop
from bigtrain.distributed import joint_wait
from bigtrain.distributed.joint_wait import JointWait, StepGivenUpError

Came = Callable[[], bool]


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stop, "_received", ["SIGTERM"])
    monkeypatch.setattr(joint_wait, "_POLL_S", 0.005)


def begin_step(wait: JointWait, came: Came) -> str:
    """Wait for samples that come when `came` says so, and for the other ranks; return what is decided."""
    try:
        deadline = time.monotonic() + 10
        while not came():
            wait.look()
            assert time.monotonic() < deadline, "it waits for ever"
            time.sleep(0.001)
        wait.meet()
    except StepGivenUpError:
        return "given up"
    return "begun"


def ranks_that_begin(*cames: Came, together: bool = True) -> list[str]:
    store = HashStore()
    waits = [JointWait(len(cames), lambda: store) for _ in cames]
    for wait in waits:
        wait.together = together
    with ThreadPoolExecutor(len(cames)) as threads:
        return list(threads.map(begin_step, waits, cames))


def never() -> bool:
    return False


def at_once() -> bool:
    return True


def is_past(moment: float) -> bool:
    return time.monotonic() > moment


@pytest.mark.parametrize("cames", [[never], [never, never], [at_once, never], [never, at_once, at_once]])
def test_a_step_that_waits_for_samples_is_given_up(cames: list[Came]) -> None:
    assert ranks_that_begin(*cames) == ["given up"] * len(cames)


def test_a_step_whose_samples_are_there_is_begun() -> None:
    assert ranks_that_begin(at_once, at_once) == ["begun"] * 2
    assert ranks_that_begin(at_once, partial(is_past, time.monotonic() + 0.05), together=False) == ["begun"] * 2


def test_who_is_not_asked_to_stop_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stop, "_received", [])
    assert ranks_that_begin(at_once, partial(is_past, time.monotonic() + 0.05)) == ["begun"] * 2


def test_all_ranks_decide_alike_whenever_samples_come() -> None:
    for delay in range(0, 40, 3):
        now = time.monotonic()
        outcomes = ranks_that_begin(*(partial(is_past, now + after) for after in (0.0001 * delay, 0.002, 0.003)))
        assert len(set(outcomes)) == 1
