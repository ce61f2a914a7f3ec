"""The `slurm` folder of a run: the batch script, the frozen config, the output, and the log of jobs.

`jobs.jsonl` has a line for all that happened: `submitted` by us, the others by the batch script itself: `started`,
`requeued`, `left` (Slurm took the job away, perhaps to bring it back), `ended`. So a job's story is known without
Slurm's accounting, long after the queue forgot it.
"""

import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from data_pipelines.files import in_home
from launch.slurm.client import Queued

FOLDER = "slurm"
_FILE_NAME = "jobs.jsonl"


@dataclass(frozen=True)
class Job:
    """A job in a run folder.

    Attributes:
        number: of the job; a task of an array is `JOB_TASK`.
        run: the run folder.
        state: the queue's word for it, or, where the queue knows it no more, how it ended.
        reason: more about it.
        requeues: so far.
        submitted: when, in UTC, ISO 8601.
        is_alive: whether it runs, or will.
    """

    number: str
    run: Path
    state: str
    reason: str
    requeues: int
    submitted: str
    is_alive: bool


class JobLog:
    """The log of a run folder's jobs.

    Args:
        run: the run folder.
    """

    def __init__(self, run: Path) -> None:
        self.run, self.folder = run, run / FOLDER

    def note_submission(self, job: str, **facts: Any) -> None:
        """Record a new job, and add the folder to the list of all runs of this user."""
        time = datetime.now(UTC).isoformat(timespec="seconds")
        with (self.folder / _FILE_NAME).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"time": time, "job": job, "event": "submitted", **facts}) + "\n")
        known = _list_of_runs()
        known.parent.mkdir(parents=True, exist_ok=True)
        with known.open("a+", encoding="utf-8") as file:
            file.seek(0)
            if f"{self.run.resolve()}\n" not in file.readlines():
                file.write(f"{self.run.resolve()}\n")

    def read(self) -> list[dict[str, Any]]:
        """Return all lines, oldest first; one that a full disk left unfinished is passed over."""
        path, lines = self.folder / _FILE_NAME, []
        for line in path.read_text().splitlines() if path.is_file() else []:
            try:
                lines.append(json.loads(line))
            except ValueError:
                continue
        return lines

    def jobs(self, queue: dict[str, Queued]) -> list[Job]:
        """Return the folder's jobs, oldest first, with what the queue says of them."""
        stories: dict[str, list[dict[str, Any]]] = {}
        for line in self.read():
            stories.setdefault(line["job"], []).append(line)
        return [self._job(number, story, queue.get(number)) for number, story in stories.items()]

    def ask_to_end(self, job: str) -> None:
        """Leave a file that keeps the batch script from requeueing the job."""
        (self.folder / f"cancel-{job}").touch()

    def output(self, job: str) -> Path:
        """Return where a job's output goes."""
        return self.folder / f"job-{job}.out"

    def _job(self, number: str, story: list[dict[str, Any]], queued: Queued | None) -> Job:
        last, requeues = story[-1], sum(line["event"] == "started" for line in story) - 1
        if queued and queued.is_alive:
            state, reason = queued.state, queued.reason
        elif last["event"] == "ended":
            state = {"complete": "COMPLETED", "cancelled": "CANCELLED"}.get(last["reason"], "FAILED")
            reason = "" if state != "FAILED" else last["reason"]
        elif (self.folder / f"cancel-{number}").exists():
            state, reason = "CANCELLED", ""
        else:
            state, reason = (queued.state, "") if queued else ("GONE", "ended or requeued by Slurm")
        alive = queued.is_alive if queued else False
        return Job(number, self.run, state, reason, max(requeues, 0), story[0]["time"], alive)


def known_runs() -> list[Path]:
    """Return the run folders that jobs of this user were submitted for, as far as they still are there."""
    path = _list_of_runs()
    runs = [Path(line) for line in path.read_text().splitlines()] if path.is_file() else []
    return [run for run in runs if (run / FOLDER / _FILE_NAME).is_file()]


def runs_in(folder: Path) -> list[Path]:
    """Return a run folder, or those of an array's seeds in it."""
    seeds = sorted(path.parents[1] for path in folder.glob(f"*/{FOLDER}/{_FILE_NAME}"))
    return seeds or [folder]


def _list_of_runs() -> Path:
    return in_home(os.environ.get("XDG_STATE_HOME", "~/.local/state")) / "bigtrain" / "slurm-runs"
