"""Ranks as threads, which share a store as the ranks of a run do."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial

import pytest
from torch._C._distributed_c10d import HashStore, PrefixStore, Store

from bigtrain.core import stop
from bigtrain.distributed import joint_wait
from bigtrain.distributed.joint_wait import JointWait, StepGivenUpError


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stop, "_received", ["SIGTERM"])
    monkeypatch.setattr(joint_wait, "_LOOK_SECONDS", 0.0)


def until(wait: JointWait, came: Callable[[], bool]) -> str:
    """Wait for a batch that comes when `came` says so; return what was decided."""
    try:
        with wait.batch(nullcontext):
            deadline = time.monotonic() + 10
            while not came():
                wait.look()
                assert time.monotonic() < deadline, "it waits for ever"
                time.sleep(0.001)
    except StepGivenUpError:
        return "given up"
    return "goes on"


def ranks_that_wait(*cames: Callable[[], bool], store: Store | None = None) -> list[str]:
    store = store or HashStore()
    with ThreadPoolExecutor(len(cames)) as threads:
        waits = [JointWait(len(cames), lambda: store) for _ in cames]
        return list(threads.map(until, waits, cames))


def is_past(moment: float) -> bool:
    return time.monotonic() > moment


def never() -> bool:
    return False


@pytest.mark.parametrize("ranks", [1, 2, 5])
def test_ranks_that_all_wait_give_up(ranks: int) -> None:
    assert ranks_that_wait(*[never] * ranks) == ["given up"] * ranks


def test_nobody_gives_up_a_step_that_a_rank_has_begun() -> None:
    came = time.monotonic() + 0.2
    assert ranks_that_wait(lambda: True, lambda: time.monotonic() > came) == ["goes on", "goes on"]


def test_all_ranks_decide_alike_whenever_samples_come() -> None:
    seen = set()
    for delay in range(0, 40, 3):
        now = time.monotonic()
        cames = [partial(is_past, now + after) for after in (0.0001 * delay, 0.002, 0.05)]
        outcomes = set(ranks_that_wait(*cames))
        assert len(outcomes) == 1
        seen |= outcomes
    assert seen


def test_one_rank_that_is_asked_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    store = HashStore()
    PrefixStore("waiting", store).set("asked", "")  # as that rank does
    monkeypatch.setattr(stop, "_received", [])
    assert ranks_that_wait(never, never, store=store) == ["given up", "given up"]
