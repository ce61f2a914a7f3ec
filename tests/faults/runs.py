"""Real runs of two ranks, and what the tests ask of them."""

import json
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from bigtrain.chaos.victims import Role, Victim, find
from bigtrain.core.presence import read_heartbeat
from bigtrain.tracking.events import read_events
from bigtrain.tracking.spool import read_metrics
from tests.conftest import ROOT

SECONDS = 400.0
"""What a slow machine with much to do may take for anything."""

SHORT = ("total_kimg=0.64", "checkpoint.interval_kimg=0.16", "eval.interval_kimg=0", "tracking.mlflow=false")
QUICK = ("health.features_kimg=0", "preview.interval_kimg=0", "data.loader=processes")


@dataclass(frozen=True)
class Runs:
    """Where runs are, and how they are started.

    Attributes:
        data: folder or URL.
        root: where the run folders are.
        settings: of all of them.
        nproc: ranks.
        restarts: how often each may be started again.
    """

    data: Path | str
    root: Path
    settings: tuple[str, ...] = (*SHORT, *QUICK)
    nproc: int = 2
    restarts: int = 2

    def having(self, *settings: str, nproc: int | None = None) -> "Runs":
        """Return the same with other settings besides."""
        return replace(self, settings=(*self.settings, *settings), nproc=nproc or self.nproc)

    def start(self, name: str, *options: str) -> subprocess.Popen[str]:
        """Start `bigtrain train`."""
        words = ["train", *self._words(name), *options, "--nproc", str(self.nproc)]
        return self._start(["bigtrain", *words, "--max-restarts", str(self.restarts)])

    def start_with(self, program: str, name: str, *options: str) -> subprocess.Popen[str]:
        """Start the same with other ranks: `MODULE`, or `MODULE FAULT`, see `drive`."""
        module, _, fault = program.partition(" ")
        drive = ["tests.faults.drive", str(self.nproc), str(self.restarts), str(self.root / name), module]
        return self._start([*drive, *([fault] if fault else []), *self._words(name), *options])

    def finish(self, name: str, *options: str) -> Path:
        """Run to the end."""
        return ended(self.start(name, *options), self.root / name)

    def _words(self, name: str) -> list[str]:
        run = [f"data.path={self.data}", f"run_dir={self.root / name}"]
        return [str(ROOT / "tests" / "tiny.yaml"), *run, *self.settings]

    def _start(self, words: list[str]) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", *words]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)


def ended(process: subprocess.Popen[str], run: Path) -> Path:
    """See that a run ends well; return its folder."""
    _, err = process.communicate(timeout=2 * SECONDS)
    assert process.returncode == 0, err
    return run


def events(run: Path) -> list[str]:
    return [event["event"] for event in read_events(run)]


def wait_for(run: Path, samples_seen: int, process: subprocess.Popen[str]) -> None:
    """Wait until a run has come so far, now, and not only in an earlier life."""
    began, deadline = time.time(), time.monotonic() + SECONDS
    while not _is_at(run, samples_seen, began):
        assert time.monotonic() < deadline, "the run does not move"
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


def _is_at(run: Path, samples_seen: int, began: float) -> bool:
    beat = read_heartbeat(run)
    return beat.get("samples_seen", 0) >= samples_seen and beat["time"] > began


def wait_until(condition: object, process: subprocess.Popen[str] | None = None) -> None:
    """Wait until `condition()` is true; a process that ends meanwhile will not make it so."""
    assert callable(condition)
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, condition
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(0.05)


def processes(supervisor: int, *roles: Role) -> list[psutil.Process]:
    """Return the processes of a run that have one of these roles."""
    victims: list[Victim] = find(supervisor)
    return [victim.process for victim in victims if victim.role in roles]


def curves(run: Path, prefix: str) -> dict[str, list[tuple[float, float]]]:
    """Return the points of some metrics."""
    return {name: points for name, points in read_metrics(run).items() if name.startswith(prefix)}


def mlflow_id(run: Path) -> str:
    return str(json.loads((run / "mlflow.json").read_text())["run_id"])
