"""Let things happen to a run at random moments, again and again, and see whether it ends as if they had not."""

import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bigtrain.chaos.compare import differences
from bigtrain.chaos.faults import FAULTS, InjectedFault
from bigtrain.chaos.victims import find
from bigtrain.core.errors import UserError
from bigtrain.core.presence import is_held, read_place, wait_until_free
from bigtrain.run.journal import faults_of
from bigtrain.tracking.events import read_events
from bigtrain.tracking.spool import read_metrics

_EARLY = 0.2
"""Share of the kills that fall into the start, before training goes on."""


@dataclass
class Report:
    """What was done to a run, and how it ended.

    Attributes:
        faults: what happened, each as `NAME: to what`.
        restarts: how often the run was resumed without having been stopped.
        lost_kimg: thousands of images that had to be done again.
        most_lost_kimg: the most after one fault.
        differences: from the undisturbed run.
    """

    faults: list[str] = field(default_factory=list)
    restarts: int = 0
    lost_kimg: float = 0.0
    most_lost_kimg: float = 0.0
    differences: list[str] = field(default_factory=list)


@dataclass
class Run:
    """A run that is started again whenever its command has ended.

    Args:
        command: the words of `bigtrain train`.
        folder: of the run; its output goes to a file beside it.
    """

    command: Sequence[str]
    folder: Path
    _process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id of the command."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Give the command, unless it is running."""
        if self._process is None or self._process.poll() is not None:
            wait_until_free(self.folder)
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            with self.folder.with_suffix(".log").open("ab") as log:
                words = [sys.executable, "-m", "bigtrain", *self.command]
                self._process = subprocess.Popen(words, stdout=log, stderr=log)

    def wait(self) -> int:
        """Wait for the command's end; return its exit code."""
        assert self._process is not None
        return self._process.wait()

    def has_ended(self) -> bool:
        """Tell whether the command has ended."""
        return self._process is None or self._process.poll() is not None

    def while_alive(self) -> Iterator[None]:
        """Iterate until the command ends.

        Raises:
            UserError: it ends by itself.
        """
        assert self._process is not None
        while (code := self._process.poll()) is None:
            yield
            time.sleep(0.02)
        if code in (0, 2, 3):
            raise UserError(
                f"{self.folder}: ended with exit code {code} before all faults were injected: train longer, or save "
                f"more often; see {self.folder}.log"
            )


def break_run(
    command: Callable[[Path], Sequence[str]],
    folder: Path,
    *,
    kills: int,
    others: Sequence[str] = (),
    seed: int,
    hang_seconds: float,
    on_fault: Callable[[int, str], None] = lambda number, what: None,
) -> Report:
    """Run once in peace and once under fire, and compare.

    Args:
        command: the words of `bigtrain train` for a run folder.
        folder: for the two runs, `undisturbed` and `disturbed`; what is there already is not run again.
        kills: how many processes to kill.
        others: what else is to happen, by names in `FAULTS`.
        seed: of the choice of moments and processes; which moment that is in the run depends on the machine's speed.
        hang_seconds: how long the watchdog lets a rank stand still.
        on_fault: called with the number of a fault, and what happened.

    Raises:
        UserError: the undisturbed run fails; or the run ends before everything has happened.
    """
    undisturbed, disturbed = folder / "undisturbed", folder / "disturbed"
    start_s, train_s = _in_peace(Run(command(undisturbed), undisturbed))
    choice = random.Random(seed)  # noqa: S311 - not a secret
    plan = ["kill"] * kills + list(others)
    if others:
        choice.shuffle(plan)
    report, run = Report(), Run(command(disturbed), disturbed)
    for number, name in enumerate(plan, 1):
        early = name == "kill" and choice.random() < _EARLY
        delay = choice.random() * (start_s if early else train_s)
        run.start()
        _wait(run, None if early else FAULTS[name], seconds=delay)
        before = read_place(disturbed).get("pid")
        while not (what := _strike(run, FAULTS[name], choice)):
            run.start()
        report.faults.append(f"{name}: {what}")
        on_fault(number, report.faults[-1])
        if what != "sender":  # the run does not miss it, and starts another
            _until_noticed(run, FAULTS[name], before, hang_seconds)
    run.start()
    while code := run.wait():
        if code in (2, 3):
            raise UserError(f"{disturbed}: ended with exit code {code}, see {disturbed}.log")
        run.start()
    faults = faults_of(disturbed)
    report.restarts, report.lost_kimg = int(faults["restarts"]), faults["lost_kimg"]
    report.most_lost_kimg = max((event.get("lost_kimg", 0.0) for event in read_events(disturbed)), default=0.0)
    report.differences = differences(undisturbed, disturbed)
    return report


def _in_peace(run: Run) -> tuple[float, float]:
    """Run to the end; return the seconds of the start, and those between two checkpoints."""
    began = time.monotonic()
    run.start()
    while not is_held(run.folder) and not run.has_ended():
        time.sleep(0.05)
    started = time.monotonic()
    if run.wait() != 0:
        raise UserError(f"the undisturbed run failed, see {run.folder}.log")
    saved = max(len(read_metrics(run.folder).get("time/checkpoint_s", [])), 1)
    return started - began, (time.monotonic() - started) / saved


def _wait(run: Run, fault: InjectedFault | None, *, seconds: float) -> None:
    """Wait from now on, or from when the run is ready for a fault."""
    for _ in run.while_alive():
        if fault is None or fault.ready(run.folder):
            break
    until = time.monotonic() + seconds
    for _ in run.while_alive():
        if time.monotonic() >= until:
            break


def _strike(run: Run, fault: InjectedFault, choice: random.Random) -> str:
    """Let a fault happen, as soon as there is something that it can happen to; say to what, "" if all had ended."""
    for _ in run.while_alive():
        if what := fault.strike(find(run.pid), run.folder, choice):
            return what
    return ""


def _until_noticed(run: Run, fault: InjectedFault, before: object, hang_seconds: float) -> None:
    """Wait until what was done shows: the run has let go of its folder, or holds it anew; or the command has ended."""
    until = time.monotonic() + (600 + 2 * hang_seconds if fault.missed else 20)
    while time.monotonic() < until and not run.has_ended():
        if is_held(run.folder):
            if read_place(run.folder).get("pid") != before:
                return
        elif not fault.ends:
            return
        time.sleep(0.05)
