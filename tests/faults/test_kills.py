"""Runs whose processes are killed, under every strategy: the same bits, and every point in MLflow once."""

import sqlite3
from pathlib import Path

import pytest

from bigtrain.chaos.compare import differences
from bigtrain.tracking.events import read_events
from bigtrain.tracking.spool import read_metrics
from tests.faults.runs import Runs, ended, events, mlflow_id, processes, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

ZERO = "strategy={{kind: deepspeed, stage: {}}}"
STRATEGIES = {
    "single": (1, "strategy.kind=single"),
    "ddp": (2, "strategy.kind=ddp"),
    "zero1": (2, ZERO.format(1)),
    "zero2": (2, ZERO.format(2)),
    "fsdp": (2, "strategy.kind=fsdp"),
}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_killed_rank_changes_no_bit(runs: Runs, strategy: str) -> None:
    nproc, setting = STRATEGIES[strategy]
    these = runs.having(setting, "tracking.mlflow=true", "ema.profiles=[0.1]", nproc=nproc)
    peaceful, run = these.finish(f"{strategy}-in-peace"), these.root / strategy
    process = these.start(strategy)
    wait_for(run, 400, process)
    for sender in processes(process.pid, "sender"):
        sender.kill()
    processes(process.pid, "rank")[-1].kill()
    ended(process, run)
    assert differences(peaceful, run) == []
    assert events(run) == ["start", "restart", "resumed", "complete"]
    assert 0 <= read_events(run)[2]["lost_kimg"] <= 0.2  # a checkpoint every 0.16, which takes a moment to be written
    for folder in (peaceful, run):
        assert points_in_mlflow(folder) == sorted(
            (name, round(1000 * kimg), value) for name, points in read_metrics(folder).items() for kimg, value in points
        )


def test_a_killed_sender_is_started_again(runs: Runs, undisturbed: Path) -> None:
    these, run = runs.having("tracking.mlflow=true", "log.interval_kimg=0.016"), runs.root / "unsent"
    process = these.start("unsent")
    wait_for(run, 100, process)
    (sender,) = processes(process.pid, "sender")
    sender.kill()
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert "the process that sends to MLflow was killed, and is restarted" in out
    assert len(points_in_mlflow(run)) == sum(map(len, read_metrics(run).values()))


def points_in_mlflow(run: Path) -> list[tuple[str, int, float]]:
    """Return what the database has of a run but the load of the node, which has a spool of its own."""
    with sqlite3.connect(run.parent / "mlflow.db") as database:
        return sorted(
            database.execute(
                "select key, step, value from metrics where run_uuid = ? and key not like 'system/%'", (mlflow_id(run),)
            ).fetchall()
        )
