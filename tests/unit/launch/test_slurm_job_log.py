import json
from pathlib import Path

import pytest

from launch.slurm.client import Queued
from launch.slurm.job_log import JobLog, known_runs, runs_in


def note(run: Path, job: str, event: str, reason: str = "", life: int = 0) -> None:
    line = {"time": "2026-11-22T10:00:00+00:00", "job": job, "event": event, "life": life, "reason": reason}
    with (run / "slurm/jobs.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "run/slurm").mkdir(parents=True)
    return tmp_path / "run"


def states(run: Path, queue: dict[str, Queued]) -> list[tuple[str, str, str, int]]:
    return [(job.number, job.state, job.reason, job.requeues) for job in JobLog(run).jobs(queue)]


def test_a_jobs_story_is_known_with_and_without_the_queue(run: Path) -> None:
    log = JobLog(run)
    log.note_submission("7", nodes=2)
    waiting = {"7": Queued("PENDING", "(Resources)")}
    assert states(run, waiting) == [("7", "PENDING", "(Resources)", 0)]
    note(run, "7", "started")
    note(run, "7", "requeued", "stopped and saved")
    note(run, "7", "started", life=1)
    assert states(run, {"7": Queued("RUNNING", "n[1-2]")}) == [("7", "RUNNING", "n[1-2]", 1)]
    assert states(run, {}) == [("7", "GONE", "ended or requeued by Slurm", 1)]
    note(run, "7", "ended", "failed with exit code 1")
    assert states(run, {}) == [("7", "FAILED", "failed with exit code 1", 1)]
    log.note_submission("8", nodes=2)
    note(run, "8", "started")
    note(run, "8", "ended", "complete")
    log.note_submission("9", nodes=2)
    log.ask_to_end("9")
    assert [job[1] for job in states(run, {})] == ["FAILED", "COMPLETED", "CANCELLED"]


def test_runs_are_found_again(run: Path) -> None:
    JobLog(run).note_submission("7")
    JobLog(run).note_submission("8")
    seeds = [run.parent / f"array/seed{seed}" for seed in range(2)]
    for seed in seeds:
        (seed / "slurm").mkdir(parents=True)
        JobLog(seed).note_submission(f"9_{seed.name[-1]}")
    assert known_runs() == [run, *seeds]
    assert runs_in(run.parent / "array") == seeds
    assert runs_in(run) == [run]
