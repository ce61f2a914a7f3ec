"""The processes of a run that was started by `bigtrain train`."""

from dataclasses import dataclass
from typing import Literal

import psutil

Role = Literal["rank", "launcher", "loader", "supervisor", "sender"]
_MARKS: dict[str, Role] = {
    "launch.agent": "launcher",
    "bigtrain.train": "rank",
    "data_pipelines.reader_process": "loader",
    "bigtrain.tracking.sender": "sender",
}


@dataclass(frozen=True)
class Victim:
    """A process of the run.

    Attributes:
        role: what it does there.
        process: itself.
    """

    role: Role
    process: psutil.Process


def find(supervisor: int) -> list[Victim]:
    """Return the processes of a run below (and with) the one that supervises it, ranks in their order."""
    try:
        family = [psutil.Process(supervisor), *psutil.Process(supervisor).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
    found = []
    for process in family:
        role = _role_of(process, supervisor)
        if role is not None:
            found.append(Victim(role, process))
    return sorted(found, key=lambda victim: victim.process.pid)


def _role_of(process: psutil.Process, supervisor: int) -> Role | None:
    try:
        words, parent = process.cmdline(), process.parent()
        copied = parent is not None and parent.cmdline() == words
    except psutil.Error:
        return None
    if process.pid == supervisor:
        return "supervisor"
    if copied:
        return "rank"  # a copy of the agent, with the agent's command line
    return next((role for mark, role in _MARKS.items() if mark in words), None)
