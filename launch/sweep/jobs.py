"""A trial as a Slurm job on any number of nodes, which do not run Ray."""

import sys
import time
from pathlib import Path
from typing import Any

from launch.slurm import client
from launch.slurm.job_log import Job, JobLog
from launch.slurm.script import JobRequest
from launch.slurm.settings import load_settings
from launch.slurm.submission import submit

_POLL_SECONDS = 3.0
_LEAVE_SECONDS = 600.0
_GONE_SECONDS = 90.0
"""How long a job must be missing in the queue before it is lost: its last line in `jobs.jsonl` may come later, over a
network file system."""


class SlurmJob:
    """The Slurm job of a trial. If the trial has a job that is alive or complete, from an earlier driver, it is used.

    Args:
        spec: specification of the trial, see `launch.sweep.trial`.
    """

    def __init__(self, spec: dict[str, Any]) -> None:
        self._folder = Path(spec["folder"])
        self._log = JobLog(self._folder)
        good = [job for job in self._log.jobs(client.queue()) if job.is_alive or job.state == "COMPLETED"]
        self._number = good[-1].number if good else self._submit(spec)
        self._queried, self._last_seen = 0.0, time.monotonic()
        self._last: Job | None = None
        self._look()

    def poll(self) -> int | None:
        """See TrialRanks. Slurm is queried every few seconds; while it does not answer, the job is taken to go on."""
        if time.monotonic() > self._queried + _POLL_SECONDS:
            self._look()
        if self._last is None or self._last.is_alive:
            return None
        if self._last.state == "GONE" and time.monotonic() < self._last_seen + _GONE_SECONDS:
            return None
        return {"COMPLETED": 0, "CANCELLED": 3}.get(self._last.state, 1)

    def stop(self) -> None:
        """See TrialRanks."""
        if self.poll() is not None:
            return
        self._log.ask_to_end(self._number)
        running = self._last is not None and self._last.state == "RUNNING"
        client.cancel(self._number, signal="TERM" if running else None)
        deadline = time.monotonic() + _LEAVE_SECONDS
        while self.poll() is None and time.monotonic() < deadline:
            time.sleep(1.0)
        if self.poll() is None:
            client.cancel(self._number)

    def why(self) -> str:
        """See TrialRanks."""
        state = f"{self._last.state} {self._last.reason}".strip() if self._last else "GONE"
        return f"job {self._number} {state}, see {self._log.output(self._number)}"

    def _submit(self, spec: dict[str, Any]) -> str:
        settings_of_job = {**spec["backend"]["settings"], "ranks_per_node": spec["nproc"]}
        profile = spec["backend"]["profile"]
        settings = load_settings(Path(profile) if profile else None, settings_of_job)
        request = JobRequest(
            spec["name"], self._folder, Path(spec["cwd"]), tuple(spec["data"]), allow_config_change=True
        )
        return submit(settings, request, {None: Path(spec["config"]).read_text()})

    def _look(self) -> None:
        """Ask the queue. A look that fails has seen nothing: what was known before holds."""
        try:
            queued = client.shared_queue(self._folder.parent / ".queue.json")
        except client.SlurmSilentError as error:
            print(f"job {self._number} is assumed to continue: {error}", file=sys.stderr)
            self._last_seen = time.monotonic()
            return
        finally:
            self._queried = time.monotonic()
        self._last = next((job for job in self._log.jobs(queued) if job.number == self._number), None)
        if self._last is None or self._last.state != "GONE":
            self._last_seen = time.monotonic()
