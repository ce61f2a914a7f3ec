"""What a run must survive, done to it from outside, by name: `FAULTS`. For Linux."""

import contextlib
import os
import random
import resource
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bigtrain.chaos.victims import Role, Victim
from bigtrain.checkpoint.contents import files_of
from bigtrain.checkpoint.folders import CheckpointFolder
from bigtrain.core.presence import LOCK, is_held, read_heartbeat

_SHARES: dict[Role, float] = {"rank": 6, "loader": 2, "launcher": 1, "supervisor": 1, "sender": 1}
_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
_FULL_BYTES = 60_000
"""The disk is full for files larger than this: for checkpoints, not for the log."""

Strike = Callable[[Sequence[Victim], Path, random.Random], str]
"""Does something to a run's processes or to its folder, and says to what; nothing if there was nothing to do it to."""


def is_training(folder: Path) -> bool:
    """Tell whether the ranks have come to the training itself since they took the folder."""
    return is_held(folder) and read_heartbeat(folder).get("time", 0.0) > (folder / LOCK).stat().st_mtime


def has_two_checkpoints(folder: Path) -> bool:
    """Tell whether there is another one to go back to, should the newest be damaged."""
    return is_training(folder) and len(CheckpointFolder(folder / "checkpoints").newest_first()) > 1


@dataclass(frozen=True)
class InjectedFault:
    """Something that happens to a run.

    Attributes:
        strike: does it.
        ready: tells of a run folder whether it can be done now.
        ends: whether the command ends by it, and must be given again.
        missed: whether the run surely misses what it takes away: a loader may have done its part.
    """

    strike: Strike
    ready: Callable[[Path], bool] = is_training
    ends: bool = False
    missed: bool = True


def kill(victims: Sequence[Victim], folder: Path, choice: random.Random) -> str:
    """Kill a process, as the kernel does when memory is short."""
    wanted = choice.choices(list(_SHARES), list(_SHARES.values()))[0]
    pick = choice.random()
    found = [one for one in victims if one.role == wanted]
    found = found or [one for one in victims if one.role not in ("loader", "sender")]
    hit = found[int(pick * len(found)) :][:1]
    return hit[0].role if _send(signal.SIGKILL, hit) else ""


def hang(victims: Sequence[Victim], folder: Path, choice: random.Random) -> str:
    """Let a rank stand still: the watchdog has to name it, and to end all."""
    ranks = [*_of(victims, "rank")]
    choice.shuffle(ranks)
    return "a rank" if _send(signal.SIGSTOP, ranks[:1]) else ""


def stop(victims: Sequence[Victim], folder: Path, choice: random.Random) -> str:
    """Ask a rank, all ranks, the command or all processes to stop, as a cluster does that wants its nodes back."""
    number, ranks = choice.choice(_SIGNALS), _of(victims, "rank")
    asked = {
        "a rank": ranks[-1:],
        "all ranks": ranks,
        "the command": _of(victims, "supervisor"),
        "all processes": victims,
    }
    whom = choice.choice(list(asked))
    return f"{whom}, {number.name}" if _send(number, asked[whom]) else ""


def disk(victims: Sequence[Victim], folder: Path, choice: random.Random) -> str:
    """Let checkpoints find no room."""
    ranks = _of(victims, "rank")
    for rank in ranks:
        with contextlib.suppress(ProcessLookupError):
            _, hard = resource.prlimit(rank.process.pid, resource.RLIMIT_FSIZE)
            resource.prlimit(rank.process.pid, resource.RLIMIT_FSIZE, (_FULL_BYTES, hard))
    return "all ranks" if ranks else ""


def damage(victims: Sequence[Victim], folder: Path, choice: random.Random) -> str:
    """Kill all ranks, and flip a bit in the newest checkpoint before it is read again."""
    ranks = _of(victims, "rank")
    if not _send(signal.SIGSTOP, ranks):  # so that the newest stays the newest
        return ""
    newest = CheckpointFolder(folder / "checkpoints").newest_first()[0]
    file = choice.choice(files_of(newest))
    data = bytearray(file.read_bytes())
    data[choice.randrange(len(data))] ^= 1 << choice.randrange(8)
    file.write_bytes(data)
    return newest.name if _send(signal.SIGKILL, ranks) else ""


def _of(victims: Sequence[Victim], role: Role) -> Sequence[Victim]:
    return [one for one in victims if one.role == role]


def _send(number: signal.Signals, victims: Sequence[Victim]) -> bool:
    """Send a signal to those that are still there; False if that is nobody."""
    reached = 0
    for victim in victims:
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim.process.pid, number)
            reached += 1
    return reached > 0


FAULTS: dict[str, InjectedFault] = {
    "kill": InjectedFault(kill, ready=is_held, missed=False),
    "hang": InjectedFault(hang),
    "stop": InjectedFault(stop, ends=True),
    "disk": InjectedFault(disk, ends=True),
    "damage": InjectedFault(damage, ready=has_two_checkpoints),
}
