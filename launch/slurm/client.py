"""Slurm's own commands, their answers and their refusals. Nothing here needs Slurm's accounting."""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bigtrain.core.errors import UserError

ALIVE = ("PENDING", "CONFIGURING", "RUNNING", "SUSPENDED", "COMPLETING", "REQUEUED", "REQUEUE_HOLD", "PREEMPTED")
"""States of a job that is not over."""


class SlurmError(UserError):
    """Slurm refuses, or is not there."""


@dataclass(frozen=True)
class Queued:
    """What the queue says of a job.

    Attributes:
        state: such as `RUNNING`.
        reason: why it waits, or the nodes that it has.
    """

    state: str
    reason: str

    @property
    def is_alive(self) -> bool:
        """Whether it runs, or will."""
        return self.state in ALIVE


def check_request(script: str) -> None:
    """Ask Slurm whether a batch script could ever run.

    Raises:
        SlurmError: it could not.
    """
    _call("sbatch", "--test-only", script=script)


def submit(script: Path) -> str:
    """Queue a batch script; return the job's number."""
    return _call("sbatch", "--parsable", str(script)).stdout.strip().split(";")[0]


def queue() -> dict[str, Queued]:
    """Return my jobs by number, each task of an array by itself; those that ended minutes ago are among them."""
    answer = _call("squeue", "--me", "--array", "--noheader", "--states=all", "--format=%i|%T|%R").stdout
    lines = (line.split("|", 2) for line in answer.splitlines())
    return {number: Queued(state, reason) for number, state, reason in lines}


def cancel(job: str, *, signal: str | None = None) -> None:
    """End a job, or send its ranks a signal."""
    _call("scancel", *([f"--signal={signal}"] if signal else []), job)


def _call(*command: str, script: str | None = None) -> "subprocess.CompletedProcess[str]":
    try:
        done = subprocess.run(command, input=script, capture_output=True, text=True, timeout=120)
    except FileNotFoundError:
        raise SlurmError(f"{command[0]}: not found; Slurm's commands are on a cluster's login nodes") from None
    except subprocess.TimeoutExpired:
        raise SlurmError(f"{command[0]}: Slurm does not answer") from None
    if done.returncode:
        raise SlurmError(f"Slurm refuses: {_in_one_line(done.stderr) or f'{command[0]} failed'}")
    return done


def _in_one_line(errors: str) -> str:
    """Return Slurm's complaints without their prefixes, each once."""
    lines = [re.sub(r"^(\w+: )?(error: |fatal: )?", "", line).strip() for line in errors.splitlines()]
    return "; ".join(dict.fromkeys(line for line in lines if line))
