"""Who asks a run to stop, whenever and however, gets a checkpoint in time, and it goes on as if nobody had asked."""

import json
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from signal import SIGINT, SIGTERM, SIGUSR1, Signals

import psutil
import pytest

from bigtrain.chaos.compare import differences, last_checkpoint
from bigtrain.run.folder import read_stopped
from bigtrain.run.status import status_of
from bigtrain.tracking.spool import read_records
from tests.faults.runs import Runs, events, processes, wait_for, wait_until

pytestmark = pytest.mark.timeout(1800)

Whom = Callable[[int], Sequence[psutil.Process]]


def one_rank(command: int) -> Sequence[psutil.Process]:
    return processes(command, "rank")[-1:]


def all_ranks(command: int) -> Sequence[psutil.Process]:
    return processes(command, "rank")


def launcher(command: int) -> Sequence[psutil.Process]:
    return processes(command, "launcher")


def the_command(command: int) -> Sequence[psutil.Process]:
    return processes(command, "supervisor")


def everything(command: int) -> Sequence[psutil.Process]:
    return processes(command, "supervisor", "launcher", "rank", "loader")


def assert_stops(process: subprocess.Popen[str], run: Path, number: Signals, whom: Whom) -> None:
    """Ask to stop, and see that all do so in time, at one step, with all saved."""
    asked = time.monotonic()
    for one in whom(process.pid):
        one.send_signal(number)
    out, err = process.communicate(timeout=200)
    assert process.returncode == 3, err
    assert time.monotonic() - asked < 100
    assert "all saved; the same command resumes" in out
    stopped = read_stopped(run)
    assert stopped is not None
    assert stopped["signal"] in (number.name, "SIGTERM")  # which is what torchrun makes of others
    assert status_of(run)["state"] == "stopped"
    if stopped["samples_seen"]:
        assert (
            json.loads((last_checkpoint(run) / "checkpoint.json").read_text())["samples_seen"]
            == stopped["samples_seen"]
        )


@pytest.mark.slow  # a signal to the launcher is tested in tests/integration/test_training.py, Slurm's in test_slurm.py
def test_a_signal_to_one_rank_and_one_to_everything_stop_all_at_one_step(runs: Runs, undisturbed: Path) -> None:
    run = runs.root / "stopped"
    process = runs.start("stopped")
    wait_for(run, 100, process)
    assert_stops(process, run, SIGUSR1, one_rank)
    process = runs.start("stopped")
    wait_for(run, 320, process)
    assert_stops(process, run, SIGTERM, everything)
    assert differences(undisturbed, runs.finish("stopped")) == []
    assert events(run) == ["start", "stopped", "resumed", "stopped", "resumed", "complete"]


def test_a_second_signal_forces_the_exit(runs: Runs) -> None:
    process = runs.start("forced")
    wait_for(runs.root / "forced", 50, process)
    ranks = processes(process.pid, "rank")
    for rank in ranks:
        rank.suspend()  # they cannot save
    process.send_signal(SIGTERM)
    time.sleep(1)
    process.send_signal(SIGTERM)
    process.communicate(timeout=100)
    assert process.returncode not in (0, 3)
    psutil.wait_procs(ranks, timeout=60)
    assert not any(rank.is_running() and rank.status() != psutil.STATUS_ZOMBIE for rank in ranks)
    assert json.loads((runs.root / "forced" / "heartbeat.json").read_text())["samples_seen"] >= 50


@pytest.fixture(scope="module")
def evaluating(runs: Runs) -> Runs:
    """Runs with an evaluation, in the middle and in the end, that takes some time."""
    evaluation = ("eval.interval_kimg=0.64", "eval.samples=400", "eval.reference_samples=400")
    return runs.having("total_kimg=1.28", "log.interval_kimg=0.64", *evaluation)


@pytest.fixture(scope="module")
def evaluated(evaluating: Runs) -> Path:
    return evaluating.finish("evaluated")


@pytest.mark.slow
@pytest.mark.parametrize("number", [SIGTERM, SIGUSR1, SIGINT])
def test_whoever_is_asked_and_whenever_it_goes_on(evaluating: Runs, evaluated: Path, number: Signals) -> None:
    name = f"often-{number.name}"
    run = evaluating.root / name

    def loads_torch(rank: psutil.Process) -> bool:
        return any("libtorch" in one.path for one in rank.memory_maps()) and not (run / "heartbeat.json").exists()

    process = evaluating.start(name)
    wait_until(lambda: len(ranks := all_ranks(process.pid)) == 2 and all(map(loads_torch, ranks)), process)
    assert_stops(process, run, number, everything)
    for samples_seen, whom in ((80, one_rank), (160, all_ranks), (240, launcher)):
        process = evaluating.start(name)
        wait_for(run, samples_seen, process)
        assert_stops(process, run, number, whom)

    process = evaluating.start(name)
    log = run / "metrics.jsonl"  # what is measured is reported before the evaluation begins
    wait_until(lambda: any(record["samples_seen"] >= 640 for record, _ in read_records(log)), process)
    assert_stops(process, run, number, everything)
    assert json.loads((last_checkpoint(run) / "checkpoint.json").read_text())["state"]["evaluations"]["schedule"][
        "unfinished"
    ] == ["progress"]

    process = evaluating.start(name)
    wait_for(run, 700, process)
    for loader in processes(process.pid, "loader"):
        loader.send_signal(number)  # which is no loader's business
    wait_for(run, 800, process)
    assert_stops(process, run, number, the_command)
    assert events(run) == [*["start", "stopped"] * 2, *["resumed", "stopped"] * 4]
    assert differences(evaluated, evaluating.finish(name)) == []
