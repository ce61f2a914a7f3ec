"""Slurm's own commands, their answers and their refusals. Nothing here needs Slurm's accounting.

Sites print banners and notes around the answers, and the controller may not answer for a while: an answer is what has
its form, and what did not answer is asked again. The commands get nothing of an outer job's environment.
"""

import fcntl
import json
import os
import re
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from bigtrain.core.errors import UserError
from bigtrain.core.launchers import for_new_jobs
from data_pipelines.files import write_json

OVER = ("COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "OUT_OF_MEMORY", "NODE_FAIL", "BOOT_FAIL", "DEADLINE", "REVOKED")
"""States of a job that is over. Any other is one of a job that runs or will: SIGNALING, RESIZING, STAGE_OUT, …"""
_WAITS = (1, 2, 4, 8, 16, 32)
"""Seconds before the next try where Slurm does not answer: a minute in all."""
_FEW, _FEW_SECONDS, _MANY_SECONDS = 8, 2.0, 30.0
"""Jobs that are few, and how old an answer about few and about many may be."""
_ANSWER_SECONDS = 60.0
_NO_ANSWER = re.compile(
    r"timed? ?out|unable to contact|connect|temporar|zero bytes|try again|not responding|standby|communicat|transport|"
    r"unavailable|unexpected message|broken pipe|reset by peer|resource busy|no route|unknown host|resolve",
    re.IGNORECASE,
)
_NOT_SET_UP = re.compile(r"configuration (source|file)", re.IGNORECASE)
"""This machine has the commands and is part of no cluster: waiting does not help."""
_NUMBER = re.compile(r"(\d+)(?:;[\w.-]+)?")
_IN_QUEUE = re.compile(r"(\d+(?:_\d+|_\[[^]]*\]|\+\d+)?)\|([A-Z_]+)\|(.*)")


class SlurmError(UserError):
    """Slurm refuses, or is not there."""


class SlurmSilentError(SlurmError):
    """Slurm does not answer, which says nothing about any job."""


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
        return self.state not in OVER


def check_request(script: str) -> None:
    """Ask Slurm whether a batch script could ever run.

    Raises:
        SlurmError: it could not.
    """
    _ask("sbatch", "--test-only", script=script)


def submit(script: Path) -> str:
    """Queue a batch script; return the job's number. What else the site's sbatch prints goes to standard error.

    A controller that does not answer may have queued the job all the same: before the next try, the queue is searched
    for a new job of this script.
    """
    before = set(_jobs_of(script))
    for wait in (*_WAITS, None):
        try:
            answer = _call("sbatch", "--parsable", str(script))
        except SlurmSilentError as error:
            if new := sorted(set(_jobs_of(script)) - before):
                return new[-1]
            _wait_or_raise(wait, error)
            continue
        numbers = _numbers_in(answer)
        return numbers[0] if len(numbers) == 1 else _queued_one(numbers, set(_jobs_of(script)) - before)
    raise AssertionError("unreachable")


def _queued_one(numbers: list[str], queued: set[str]) -> str:
    """Return which of several numbers that a site's sbatch prints is the job's: the one that the queue has."""
    found = [number for number in numbers if number in queued]
    if len(found) != 1:
        raise SlurmError(
            f"sbatch --parsable answered with several numbers ({', '.join(numbers)}); look with squeue --me"
        )
    return found[0]


def queue() -> dict[str, Queued]:
    """Return my jobs by number, each task of an array by itself; those that ended minutes ago are among them."""
    answer = _ask("squeue", "--me", "--array", "--noheader", "--states=all", "--format=%i|%T|%R")
    found = filter(None, (_IN_QUEUE.fullmatch(line.strip()) for line in answer.splitlines()))
    return {one[1]: Queued(one[2], one[3]) for one in found}


def shared_queue(kept: Path) -> dict[str, Queued]:
    """Return what `queue` does, or did a moment ago for another process: a controller has better things to do.

    Args:
        kept: file of the last answer, which processes on several machines may share.
    """
    with kept.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            known = {number: Queued(**entry) for number, entry in json.loads(kept.read_text()).items()}
            if time.time() - kept.stat().st_mtime < (_MANY_SECONDS if len(known) > _FEW else _FEW_SECONDS):
                return known
        except (OSError, ValueError, TypeError):
            pass
        found = queue()
        write_json(kept, {number: asdict(job) for number, job in found.items()})
        return found


def cancel(job: str, *, signal: str | None = None) -> None:
    """End a job, or send its ranks a signal."""
    _ask("scancel", *([f"--signal={signal}"] if signal else []), job)


def _jobs_of(script: Path) -> list[str]:
    """Return the numbers of my jobs that run a batch script; an array has one."""
    answer = _ask("squeue", "--me", "--noheader", "--states=all", "--format=%A|%o")
    pairs = (line.strip().partition("|") for line in answer.splitlines())
    return [number for number, _, command in pairs if number.isdecimal() and command == str(script)]


def _numbers_in(answer: str) -> list[str]:
    """Return what may be the job's number in what sbatch answers to --parsable: lines of one, or `NUMBER;CLUSTER`.

    Raises:
        SlurmError: there is none.
    """
    lines = [line.strip() for line in answer.splitlines() if line.strip()]
    numbers = [match[1] for line in lines if (match := _NUMBER.fullmatch(line))]
    if not numbers:
        said = _in_one_line(answer) or "nothing"
        raise SlurmError(f"sbatch --parsable answered with no job's number, but: {said}; look with squeue --me")
    for line in lines:
        if _NUMBER.fullmatch(line) is None and re.search(r"\w", line):
            print(f"sbatch: {line}", file=sys.stderr)
    return list(dict.fromkeys(numbers))


def _ask(*command: str, script: str | None = None) -> str:
    """Run a command that may be run twice, and again while Slurm does not answer; return what it prints.

    Raises:
        SlurmError: Slurm refuses.
        SlurmSilentError: it did not answer for a minute.
    """
    for wait in (*_WAITS, None):
        try:
            return _call(*command, script=script)
        except SlurmSilentError as error:
            _wait_or_raise(None if _NOT_SET_UP.search(str(error)) else wait, error)
    raise AssertionError("unreachable")


def _wait_or_raise(wait: int | None, error: SlurmSilentError) -> None:
    if _NOT_SET_UP.search(str(error)):
        raise error
    if wait is None:
        raise SlurmSilentError(f"{error} (asked again for {sum(_WAITS)} s)") from None
    if wait == _WAITS[0]:
        print(f"bigtrain: {error}; asking again", file=sys.stderr)
    time.sleep(wait)


def _call(*command: str, script: str | None = None) -> str:
    try:
        done = subprocess.run(
            command,
            input=script or "",
            env=for_new_jobs(os.environ),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_ANSWER_SECONDS,
        )
    except FileNotFoundError:
        raise SlurmError(f"{command[0]}: not found; Slurm's commands are on a cluster's login nodes") from None
    except subprocess.TimeoutExpired:
        raise SlurmSilentError(f"{command[0]}: Slurm does not answer within {_ANSWER_SECONDS:g} s") from None
    if done.returncode:
        said = _in_one_line(done.stderr) or f"{command[0]} failed"
        if command[0] == "squeue" or _NO_ANSWER.search(said):  # a look that failed has seen nothing
            raise SlurmSilentError(f"{command[0]}: Slurm does not answer: {said}")
        raise SlurmError(f"Slurm refuses: {said}")
    return done.stdout


def _in_one_line(errors: str) -> str:
    """Return Slurm's complaints without their prefixes, each once."""
    lines = [re.sub(r"^(\w+: )?(error: |fatal: )?", "", line).strip() for line in errors.splitlines()]
    return "; ".join(dict.fromkeys(line for line in lines if line))
