"""The lock and the heartbeat of a run folder: whether a process trains into it, which one, and its progress."""

import contextlib
import errno
import fcntl
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import psutil

from bigtrain.core.errors import UserError
from bigtrain.core.launchers import COMMAND
from bigtrain.core.logging import log
from bigtrain.core.state import Progress

LOCK, _HEARTBEAT = "run.lock", "heartbeat.json"
_BEAT_SECONDS = 1.0
_BEAT_BYTES = 1024
"""Length of the file, which its JSON does not reach."""
_SETTLE_SECONDS = 1.0
_LEAVE_SECONDS = 200.0
"""How long a process that has lost its launcher is waited for: it may take 150 s to save."""
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""What file systems say that know no locks."""


class RunBusyError(UserError):
    """Another process trains into the folder."""


def hold(folder: Path, place: dict[str, Any], *, wait_seconds: float = 60.0) -> IO[str] | None:
    """Take a run folder for this process until it ends, however it ends.

    Args:
        folder: made if need be.
        place: who holds it: `pid`, `host` and what else is worth knowing.
        wait_seconds: for another process that is about to leave.

    Returns:
        What holds it, to be kept; None on file systems that know no locks.

    Raises:
        RunBusyError: another process does not leave.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = (folder / LOCK).open("a+", encoding="utf-8")
    deadline, said = time.monotonic() + wait_seconds, False
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if _is_of_a_former_boot(folder):
                log.warning("%s: the lock was left by %s before this machine was restarted, and is replaced", folder,
                            _holder(folder))  # fmt: skip
                file.close()
                (folder / LOCK).unlink(missing_ok=True)
                file = (folder / LOCK).open("a+", encoding="utf-8")
                continue
            if time.monotonic() > deadline:
                file.close()
                raise RunBusyError(f"{folder}: {_holder(folder)} is training here; stop it first, or wait") from None
            if not said:
                log.info("%s: waiting for %s to exit", folder, _holder(folder))
            said = True
            time.sleep(0.2)
        except OSError as error:
            file.close()
            if error.errno not in NO_LOCKS:
                raise
            log.warning("%s: this file system supports no locks: make sure that no other run trains here", folder)
            return None
    file.truncate(0)
    file.write(json.dumps(place))
    file.flush()
    return file


def is_held(folder: Path) -> bool:
    """Tell whether a process trains into the folder; on a network file system, on any node."""
    try:
        with (folder / LOCK).open("r", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return not _is_of_a_former_boot(folder)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
    return False


def refuse_if_held(folder: Path) -> None:
    """See that no process trains into the folder; one that has lost its launcher saves and leaves, and is waited for.

    Raises:
        RunBusyError: one does.
    """
    if not is_held(folder):
        return
    if _has_lost_its_command(read_place(folder)):
        log.info("%s: %s has lost its launcher, saves and exits: waiting for it", folder, _holder(folder))
        if wait_until_free(folder, seconds=_LEAVE_SECONDS):
            return
    raise RunBusyError(f"{folder}: {_holder(folder)} is training here; stop it first, or wait")


def wait_until_free(folder: Path, *, seconds: float = 150.0) -> bool:
    """Wait until nobody trains into the folder; False if that takes longer."""
    deadline = time.monotonic() + seconds
    while is_held(folder):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def read_place(folder: Path) -> dict[str, Any]:
    """Return what the process that trains into the folder, or the last one that did, said of itself."""
    return _read(folder / LOCK)


def _holder(folder: Path) -> str:
    place = read_place(folder)
    words = f"process {place.get('pid', '?')} on {place.get('host', '?')}"
    elsewhere = place.get("namespace") not in (None, _namespace()) and place.get("boot") == _boot()
    return f"{words} (in another container of this machine)" if elsewhere else words


def _has_lost_its_command(place: Mapping[str, Any]) -> bool:
    """Tell whether the command that has started a process is gone; False where its number says nothing here."""
    command, here = place.get("command"), (place.get("boot"), place.get("namespace")) == (_boot(), _namespace())
    return command is not None and here and not psutil.pid_exists(int(command))


def _is_of_a_former_boot(folder: Path) -> bool:
    """Tell whether a lock's process ran here before this machine was started last: some file servers keep its lock."""
    for wait in (_SETTLE_SECONDS, 0.0):  # whoever has just taken the lock says so in a moment
        place = read_place(folder)
        if place.get("host") != os.uname().nodename or place.get("boot") in (None, _boot()):
            return False
        time.sleep(wait)
    return True


def _boot() -> str | None:
    """Return what tells this start of the machine from all others; None where that is not known."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None


def _namespace() -> str | None:
    """Return what tells the processes' numbers of this container from those of others; None where that is not known."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return None


class Heartbeat:
    """Writes the progress of the run to a file once a second.

    It is written over in place, in one call and always equally long: a rename a second would flush to the disk on some
    file systems, which takes half a percent of the time of a run with small steps.

    Args:
        folder: the run folder.
    """

    def __init__(self, folder: Path) -> None:
        self._path, self._beaten = folder / _HEARTBEAT, float("-inf")

    def beat(self, progress: Progress, *, now: bool = False, **facts: Any) -> None:
        """Write the place of the run down with further facts, if it is time."""
        if now or time.monotonic() - self._beaten >= _BEAT_SECONDS:
            self._beaten = time.monotonic()
            text = json.dumps({"samples_seen": progress.samples_seen, "time": time.time(), **facts})
            with contextlib.suppress(OSError):  # a full disk costs a pulse, not the run
                file = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o644)
                try:
                    os.pwrite(file, text.encode().ljust(_BEAT_BYTES), 0)
                finally:
                    os.close(file)


def read_heartbeat(folder: Path) -> dict[str, Any]:
    """Return the newest `samples_seen` and the `time` (UNIX) of it; empty if there is none."""
    return _read(folder / _HEARTBEAT) or _read(folder / _HEARTBEAT)  # again, should it be written just now


def place_of_this_process(**facts: Any) -> dict[str, Any]:
    """Return who trains, for `hold`."""
    found = {
        "slurm_job_id": os.environ.get("SLURM_JOB_ID"),
        "boot": _boot(),
        "namespace": _namespace(),
        "command": os.environ.get(COMMAND),
    }
    known = {name: value for name, value in found.items() if value}
    return {"pid": os.getpid(), "host": os.uname().nodename, **known, **facts}


def _read(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content
