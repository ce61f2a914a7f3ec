import io
from pathlib import Path

import pytest
from rich.console import Console

from bigtrain.core.config import ConfigError
from bigtrain.core.presence import hold
from bigtrain.core.state import Progress
from bigtrain.run.folder import mark_stopped
from bigtrain.run.journal import Journal
from bigtrain.run.status import status_of, table
from bigtrain.tracking.events import EventLog
from bigtrain.tracking.sent import Sent, SentState
from bigtrain.tracking.spool import read_records
from bigtrain.tracking.tracker import Tracker, TrackingConfig


class Run:
    """A run that is told what happens to it."""

    def __init__(self, folder: Path) -> None:
        (folder / "config.yaml").write_text("total_kimg: 1.0\n")
        self.folder, self.progress = folder, Progress(1000, 10)
        self.tracker = Tracker(TrackingConfig(mlflow=False), folder, active=True)

    def start(self, samples_seen: int) -> Journal:
        self.progress.samples_seen = samples_seen
        journal = Journal(self.folder, self.tracker, active=True)
        journal.begin(self.progress, self.folder / "checkpoints/kimg000000.200" if samples_seen else None, host="here")
        return journal

    def reach(self, journal: Journal, samples_seen: int) -> None:
        self.progress.samples_seen = samples_seen
        journal.beat(self.progress, now=True)


def test_faults_are_counted_and_what_they_cost(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.reach(run.start(0), 350)
    journal = run.start(200)  # after a kill
    run.reach(journal, 400)
    journal.note("stopped", run.progress, by="SIGTERM")
    journal = run.start(400)
    journal.note("skipped_step", run.progress, phase="d_main")
    journal.count({"data/replaced": 3.0}, run.progress)
    journal.count({"data/replaced": 5.0}, run.progress)
    run.tracker.log({"time/img_per_s": 100.0, "time/left_s": 9.0, "eval/fid": 12.5}, run.progress)
    lock = hold(tmp_path, {"pid": 1, "host": "here"})
    assert lock
    status = status_of(tmp_path)
    assert (status["state"], status["kimg"], status["eta_s"]) == ("running", 0.4, 9.0)
    assert (status["restarts"], status["lost_kimg"], status["stops"]) == (1, 0.15, 1)
    assert (status["skipped_steps"], status["replaced_samples"]) == (1, 5)
    assert status["scores"] == {"eval/fid": {"kimg": 0.4, "value": 12.5}}
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(table(status))
    shown = console.export_text()
    assert "100.0 img/s, 0:00:09 left" in shown
    assert "1 restart, 0.15 kimg repeated, 1 skipped steps, 5 replaced samples" in shown
    lock.close()
    assert status_of(tmp_path)["state"] == "failed"
    mark_stopped(tmp_path, signal="SIGTERM", samples_seen=400)
    assert status_of(tmp_path)["state"] == "stopped"


def test_mlflow_hears_of_each_restart_and_its_cause(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.reach(run.start(0), 350)
    for number, cause in enumerate(("rank 1 was killed by SIGKILL", "rank 0 ended with exit code 1"), 1):
        EventLog(tmp_path).append("restart", kimg=0.35, cause=cause, number=number, of=5)
        run.start(200)
    records = [record for record, _ in read_records(tmp_path / "metrics.jsonl") if record["kind"] == "event"]
    assert [record["text"] for record in records if record["key"] == "event.restart"] == [
        "rank 1 was killed by SIGKILL; restart 1 of 5",
        "rank 0 ended with exit code 1; restart 2 of 5",
    ]


def test_what_mlflow_has_not_got_yet_is_counted_over_all_spools(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.reach(run.start(0), 350)
    assert status_of(tmp_path)["mlflow"] is None
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics/node0.jsonl").write_text("0123456789")
    reported = (tmp_path / "metrics.jsonl").stat().st_size
    sent = Sent("abc", "fashion", "7", {"metrics.jsonl": reported, "metrics/node0.jsonl": 4})
    SentState(tmp_path).save("sqlite:///x", sent)
    assert status_of(tmp_path)["mlflow"] == {"run_id": "abc", "page": None, "unsent_bytes": 6}
    SentState(tmp_path).save("http://server", sent)
    page = "http://server/#/experiments/7/runs/abc?workflowType=machine_learning"
    assert status_of(tmp_path)["mlflow"] == {"run_id": "abc", "page": page, "unsent_bytes": 6}


def test_another_folder_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not a run folder"):
        status_of(tmp_path)
