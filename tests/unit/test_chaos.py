"""What `bigtrain chaos` does, done to processes that sleep. How runs take it: `tests/faults`."""

import random
import resource
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import torch

from bigtrain.chaos.faults import FAULTS, has_two_checkpoints, is_training
from bigtrain.chaos.starts import Starts
from bigtrain.chaos.victims import Victim
from bigtrain.checkpoint import CheckpointConfig, Checkpoints
from bigtrain.checkpoint.folders import is_whole
from bigtrain.config import load_training
from bigtrain.core.presence import Heartbeat, hold
from bigtrain.core.state import Progress, State
from bigtrain.tracking.events import EventLog
from tests.conftest import ROOT


class Ones:
    def state_dict(self) -> State:
        return {"ones": torch.ones(1000)}

    def load_state_dict(self, state: State) -> None:
        pass


@pytest.fixture
def ranks() -> Iterator[list[Victim]]:
    started = [subprocess.Popen(["sleep", "60"]) for _ in range(2)]
    yield [Victim("rank", psutil.Process(one.pid)) for one in started]
    for one in started:
        one.kill()
        one.wait()


@pytest.mark.parametrize("name", ["kill", "hang", "stop", "disk"])
def test_nothing_to_strike_is_said(tmp_path: Path, name: str) -> None:
    assert FAULTS[name].strike([], tmp_path, random.Random(0)) == ""


def test_a_kill_takes_one_that_is_there(ranks: list[Victim], tmp_path: Path) -> None:
    assert FAULTS["kill"].strike(ranks, tmp_path, random.Random(0)) == "rank"
    gone, _ = psutil.wait_procs([rank.process for rank in ranks], timeout=2)
    assert len(gone) == 1


def test_a_rank_hangs(ranks: list[Victim], tmp_path: Path) -> None:
    assert FAULTS["hang"].strike(ranks, tmp_path, random.Random(0)) == "a rank"
    deadline = time.monotonic() + 10
    while (stopped := [rank.process.status() for rank in ranks].count(psutil.STATUS_STOPPED)) < 1:
        assert time.monotonic() < deadline
    assert stopped == 1


def test_the_disk_is_full_for_all(ranks: list[Victim], tmp_path: Path) -> None:
    assert FAULTS["disk"].strike(ranks, tmp_path, random.Random(0)) == "all ranks"
    limits = {resource.prlimit(rank.process.pid, resource.RLIMIT_FSIZE)[0] for rank in ranks}
    assert limits == {60_000}


@pytest.mark.usefixtures("alone")
def test_the_newest_checkpoint_is_damaged(ranks: list[Victim], tmp_path: Path) -> None:
    progress = Progress(1000, 10)
    checkpoints = Checkpoints(CheckpointConfig(interval_kimg=1), tmp_path / "checkpoints", {"part": Ones()})
    paths = []
    for _ in range(2):
        progress.advance()
        paths.append(checkpoints.save(progress))
        checkpoints.wait()
    assert FAULTS["damage"].strike(ranks, tmp_path, random.Random(0)) == paths[1].name
    assert [is_whole(path) for path in paths] == [True, False]
    assert len(psutil.wait_procs([rank.process for rank in ranks], timeout=2)[0]) == 2


def test_a_run_is_ready_when_it_trains(tmp_path: Path) -> None:
    assert not is_training(tmp_path)
    lock = hold(tmp_path, {"pid": 1})
    assert not is_training(tmp_path)
    Heartbeat(tmp_path).beat(Progress(1000, 10), now=True)
    assert is_training(tmp_path)
    assert not has_two_checkpoints(tmp_path)
    assert lock is not None
    lock.close()
    assert not is_training(tmp_path)


def test_a_disturbed_run_goes_on_with_every_kind_of_step(tmp_path: Path) -> None:
    """The config's own checkpoints come every 10 steps, where R1, due every 8, would be met at every fourth."""
    changes = ["objective.terms.r1.interval=8", "checkpoint.interval_kimg=0.16", "data.path=nowhere", "run_dir=nowhere"]
    starts = Starts(load_training(str(ROOT / "tests" / "tiny.yaml"), changes))
    assert starts.checkpoint_kimg == 12 * 16 / 1000
    events = EventLog(tmp_path)
    events.append("start", kimg=0.0)
    for number in (1, 2, 3):
        events.append("resumed", kimg=number * starts.checkpoint_kimg)
    assert starts.met(tmp_path) == {"d_main+r1": 1, "g_main": 3, "d_main": 2}
