"""Real ranks wait for samples, and are asked to stop: all begin the step, or none does."""

import time
from pathlib import Path

import pytest
import torch.distributed as dist

from bigtrain.core import stop
from bigtrain.distributed import joint_wait
from bigtrain.distributed.joint_wait import JointWait, StepGivenUpError
from tests.distributed.ranks import on_ranks

Waits = tuple[float, ...]
"""After how many seconds each rank's samples come."""

NEVER = 1e9
STEPS: list[tuple[Waits, tuple[bool, ...], bool, str]] = [
    # when samples come, who is asked to stop, whether the step is begun together, what is decided
    ((0.0, 0.0), (True, True), True, "begun"),
    ((0.0, 0.05), (False, False), True, "begun"),
    ((0.0, 0.05), (True, True), False, "begun"),
    ((0.0, NEVER), (True, True), True, "given up"),
    ((NEVER, NEVER), (True, True), True, "given up"),
    ((0.0, NEVER), (True, False), True, "given up"),
    ((NEVER, 0.0), (True, False), True, "given up"),
]


def _begin_steps() -> list[str]:
    joint_wait._LOOK_S = 0.05
    decided = []
    for waits, asked, together, _ in STEPS:
        rank = dist.get_rank()
        dist.barrier()
        if rank == 0:
            dist.distributed_c10d._get_default_store().delete_key(joint_wait._ASKED)
        dist.barrier()
        stop._received[:] = ["SIGTERM"] if asked[rank] else []
        wait = JointWait(2)
        wait.together = together
        decided.append(_begin_step(wait, waits[rank]))
    stop._received.clear()
    return decided


def _begin_step(wait: JointWait, after: float) -> str:
    began = time.monotonic()
    try:
        while time.monotonic() < began + after:
            wait.look()
            assert time.monotonic() < began + 20, "it waits for ever"
            time.sleep(0.002)
        wait.meet()
    except StepGivenUpError:
        return "given up"
    return "begun"


def test_all_ranks_begin_a_step_or_none_does(tmp_path: Path) -> None:
    expected = [decision for *_, decision in STEPS]
    assert on_ranks(2, _begin_steps, tmp_path) == [expected, expected]


def test_a_process_alone_gives_up_whatever_it_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stop, "_received", [])
    assert _begin_step(JointWait(1), 0.01) == "begun"
    monkeypatch.setattr(stop, "_received", ["SIGTERM"])
    assert _begin_step(JointWait(1), NEVER) == "given up"
