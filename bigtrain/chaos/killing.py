"""Kill processes of a run at random moments, again and again."""

import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bigtrain.chaos.compare import differences
from bigtrain.chaos.victims import Role, find, kill
from bigtrain.core.errors import UserError
from bigtrain.journal import faults_of
from bigtrain.presence import is_held, read_place, wait_until_free
from bigtrain.tracking.events import read_events
from bigtrain.tracking.spool import read_metrics

_SHARES: dict[Role, float] = {"rank": 6, "loader": 2, "launcher": 1, "supervisor": 1}
_EARLY = 0.2
"""Share of the kills that fall into the start, before training goes on."""


@dataclass
class Report:
    """What was done to a run, and how it ended.

    Attributes:
        kills: the role of each process that was killed.
        restarts: how often the run was resumed without having been stopped.
        lost_kimg: thousands of images that had to be done again.
        most_lost_kimg: the most after one kill.
        differences: from the undisturbed run.
    """

    kills: list[Role] = field(default_factory=list)
    restarts: int = 0
    lost_kimg: float = 0.0
    most_lost_kimg: float = 0.0
    differences: list[str] = field(default_factory=list)


def run_with_kills(
    command: Callable[[Path], Sequence[str]],
    folder: Path,
    *,
    kills: int,
    seed: int,
    on_kill: Callable[[int, str], None] = lambda number, what: None,
) -> Report:
    """Run once in peace and once under fire, and compare.

    Args:
        command: the words of `bigtrain train` for a run folder.
        folder: for the two runs, `undisturbed` and `disturbed`; what is there already is not run again.
        kills: how many processes to kill.
        seed: of the choice of moments and processes; which moment that is in the run depends on the machine's speed.
        on_kill: told the number of a kill, and what was killed.

    Raises:
        UserError: the undisturbed run fails; or the run ends before all kills are done.
    """
    undisturbed, disturbed = folder / "undisturbed", folder / "disturbed"
    start_s, train_s = _in_peace(command(undisturbed), undisturbed)
    report, choice = Report(), random.Random(seed)  # noqa: S311 - not a secret
    supervisor: subprocess.Popen[bytes] | None = None
    for number in range(1, kills + 1):
        early = choice.random() < _EARLY
        delay = choice.random() * (start_s if early else train_s)
        wanted = choice.choices(list(_SHARES), list(_SHARES.values()))[0]
        pick = choice.random()
        if supervisor is None or supervisor.poll() is not None:
            wait_until_free(disturbed)
            supervisor = _start(command(disturbed), disturbed)
        _wait(supervisor, disturbed, early=early, seconds=delay)
        victims = [victim for victim in find(supervisor.pid) if victim.role == wanted] or [
            victim for victim in find(supervisor.pid) if victim.role != "loader"
        ]
        victim = victims[int(pick * len(victims))]
        before = read_place(disturbed).get("pid")
        kill(victim)
        report.kills.append(victim.role)
        on_kill(number, victim.role)
        _until_noticed(supervisor, disturbed, before)
    while supervisor is None or supervisor.wait() != 0:
        if supervisor is not None and supervisor.returncode in (2, 3):
            raise UserError(f"{disturbed}: ended with exit code {supervisor.returncode}, see {disturbed}.log")
        wait_until_free(disturbed)
        supervisor = _start(command(disturbed), disturbed)
    toll = faults_of(disturbed)
    report.restarts, report.lost_kimg = int(toll["restarts"]), toll["lost_kimg"]
    report.most_lost_kimg = max((event.get("lost_kimg", 0.0) for event in read_events(disturbed)), default=0.0)
    report.differences = differences(undisturbed, disturbed)
    return report


def _in_peace(command: Sequence[str], folder: Path) -> tuple[float, float]:
    """Run to the end; return the seconds of the start, and those between two checkpoints."""
    began = time.monotonic()
    process = _start(command, folder)
    while not is_held(folder) and process.poll() is None:
        time.sleep(0.05)
    started = time.monotonic()
    if process.wait() != 0:
        raise UserError(f"the undisturbed run failed, see {folder}.log")
    saved = max(_count_saves(folder), 1)
    return started - began, (time.monotonic() - started) / saved


def _count_saves(folder: Path) -> int:
    return len(read_metrics(folder).get("time/checkpoint_s", []))


def _start(command: Sequence[str], folder: Path) -> subprocess.Popen[bytes]:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".log").open("ab") as log:
        return subprocess.Popen([sys.executable, "-m", "bigtrain", *command], stdout=log, stderr=log)


def _wait(supervisor: subprocess.Popen[bytes], folder: Path, *, early: bool, seconds: float) -> None:
    """Wait from now on, or from when ranks train."""
    for _ in _while_alive(supervisor, folder):
        if early or is_held(folder):
            break
    until = time.monotonic() + seconds
    for _ in _while_alive(supervisor, folder):
        if time.monotonic() >= until:
            break


def _until_noticed(supervisor: subprocess.Popen[bytes], folder: Path, before: object) -> None:
    """Wait until what was killed is missed: the run has let go of its folder, or holds it anew."""
    until = time.monotonic() + 20
    while time.monotonic() < until and supervisor.poll() is None and is_held(folder):
        if read_place(folder).get("pid") != before:
            return
        time.sleep(0.05)


def _while_alive(supervisor: subprocess.Popen[bytes], folder: Path) -> Iterator[None]:
    while (code := supervisor.poll()) is None:
        yield
        time.sleep(0.02)
    if code in (0, 2, 3):
        raise UserError(
            f"{folder}: ended with exit code {code} before all kills were done: train longer, or save more often"
        )
