"""Which job a trial takes over when the driver that submitted it is lost; Slurm itself is a stand-in."""

import json
from pathlib import Path
from typing import Any

import pytest

from launch.slurm import client
from launch.slurm.client import Queued
from launch.slurm.job_log import JobLog
from launch.sweep import jobs
from launch.sweep.jobs import SlurmJob


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A trial whose first job, 7, ended badly, and whose second, 8, a lost driver has submitted."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(SlurmJob, "_submit", lambda self, spec: "9")
    (tmp_path / "run" / "slurm").mkdir(parents=True)
    log = JobLog(tmp_path / "run")
    for job in ("7", "8"):
        log.note_submission(job)
    note(tmp_path / "run", "7", "failed with exit code 1")
    return {"folder": str(tmp_path / "run")}


def note(run: Path, job: str, reason: str) -> None:
    line = {"time": "2026-11-22T10:00:00+00:00", "job": job, "event": "ended", "life": 0, "reason": reason}
    with (run / "slurm" / "jobs.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")


def in_queue(monkeypatch: pytest.MonkeyPatch, **queue: Queued) -> None:
    monkeypatch.setattr(client, "_FEW_SECONDS", 0.0)
    monkeypatch.setattr(client, "queue", lambda: {name.removeprefix("job"): job for name, job in queue.items()})


def test_one_that_is_alive_is_taken_over(spec: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    in_queue(monkeypatch, job8=Queued("RUNNING", "n1"))
    job = SlurmJob(spec)
    assert job.why().startswith("job 8 ")
    assert job.poll() is None


def test_one_that_has_completed_is_the_trial(spec: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    in_queue(monkeypatch)
    note(Path(spec["folder"]), "8", "complete")
    assert SlurmJob(spec).poll() == 0


def test_a_look_that_fails_ends_no_job(spec: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    in_queue(monkeypatch, job8=Queued("RUNNING", "n1"))
    job = SlurmJob(spec)

    def silent() -> dict[str, Queued]:
        raise client.SlurmSilentError("squeue: Slurm does not answer")

    monkeypatch.setattr(jobs, "_POLL_SECONDS", -1.0)
    monkeypatch.setattr(client, "queue", silent)
    assert [job.poll() for _ in range(5)] == [None] * 5
    in_queue(monkeypatch)  # an empty answer may come before the job's own last line
    assert job.poll() is None
    note(Path(spec["folder"]), "8", "complete")
    assert job.poll() == 0


def test_a_job_that_is_gone_is_lost_after_a_while(spec: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    in_queue(monkeypatch, job8=Queued("RUNNING", "n1"))
    job = SlurmJob(spec)
    monkeypatch.setattr(jobs, "_POLL_SECONDS", -1.0)
    in_queue(monkeypatch)
    assert job.poll() is None
    monkeypatch.setattr(jobs, "_GONE_SECONDS", -1.0)
    assert job.poll() == 1


def test_one_that_was_lost_is_submitted_again(spec: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    in_queue(monkeypatch, job9=Queued("PENDING", "(Resources)"))
    assert SlurmJob(spec).why().startswith("job 9 ")
