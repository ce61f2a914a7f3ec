"""A trial as a Slurm job on any number of nodes, which do not run Ray."""

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
        self._queried = 0.0
        self._last = self._look()

    def poll(self) -> int | None:
        """See Ranks. Slurm is queried every few seconds."""
        if time.monotonic() > self._queried + _POLL_SECONDS:
            self._last = self._look()
        if self._last is None or self._last.is_alive:
            return None
        return {"COMPLETED": 0, "CANCELLED": 3}.get(self._last.state, 1)

    def stop(self) -> None:
        """See Ranks."""
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
        """See Ranks."""
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

    def _look(self) -> Job | None:
        self._queried = time.monotonic()
        jobs = self._log.jobs(client.queue())
        return next((job for job in jobs if job.number == self._number), None)
