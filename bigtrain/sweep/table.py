"""The table of a sweep in the terminal, and what is done beside it: removing checkpoints, reporting to MLflow."""

import math
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

from rich.live import Live
from rich.table import Table

from bigtrain.core.logging import console
from bigtrain.core.presence import is_held, read_heartbeat
from bigtrain.sweep.event_log import Trial
from bigtrain.sweep.metric import Direction
from bigtrain.sweep.results import format_score
from bigtrain.sweep.sweep import Sweep

_COLOURS = {"running": "green", "complete": "bold green", "stopped": "yellow", "failed": "bold red", "waiting": "dim"}
_SECONDS = 1.0


class LiveTable:
    """A context that shows a live table of the trials, from a thread.

    Args:
        sweep: the sweep.
        trials: returns all trials by number.
        direction: returns whether the metric is minimised or maximised.
    """

    def __init__(
        self, sweep: Sweep, trials: Callable[[], Mapping[int, Trial]], direction: Callable[[], Direction]
    ) -> None:
        self._sweep, self._trials, self._direction = sweep, trials, direction
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="table")
        self._publisher: subprocess.Popen[bytes] | None = None
        self._published = time.monotonic()

    def __enter__(self) -> Self:
        """Start the thread, and show the table if the output is a terminal."""
        if console.is_terminal:
            self._live.start()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Remove the table, and wait for a report to MLflow that has begun."""
        self._closing.set()
        self._thread.join()
        self._live.stop()
        if self._publisher is not None:
            self._publisher.wait()

    def _run(self) -> None:
        while not self._closing.wait(_SECONDS):
            trials = dict(self._trials())
            if console.is_terminal:
                self._live.update(table(self._sweep, trials, self._direction()), refresh=True)
            remove_stopped_checkpoints(self._sweep, trials)
            ready = self._publisher is None or self._publisher.poll() is not None
            if ready and time.monotonic() > self._published + self._sweep.config.publish_seconds:
                self._published = time.monotonic()
                self._publisher = start_publisher(self._sweep)


def table(sweep: Sweep, trials: Mapping[int, Trial], direction: Direction) -> Table:
    """Return a table of the trials: state, progress, score with its interval, values that vary, time left."""
    rows = Table(box=None, padding=(0, 2, 0, 0), title=str(sweep.folder), title_justify="left")
    keys = sweep.space.varying
    for name in ("trial", "state", "kimg", sweep.metric.name, *map(short_name, keys), "ETA"):
        rows.add_column(name, justify="left" if name in ("trial", "state") else "right")
    base = sweep.space.base_point()
    scored = [trial for trial in trials.values() if trial.last is not None]
    best = min(scored, key=lambda one: direction.key(one.last), default=None)  # type: ignore[arg-type]
    for number, trial in sorted(trials.items()):
        seen = read_heartbeat(sweep.folder / trial.name).get("samples_seen", 0)
        last, point = trial.last, {**base, **trial.point}
        score = format_score(last) if last is not None else ""
        again = f" (seed {trial.seed} of {trial.repeats})" if trial.repeats is not None else ""
        rows.add_row(
            f"{number}{again}",
            f"[{_COLOURS[trial.state]}]{trial.state}[/]",
            f"{seen / 1000:.1f}",
            f"[bold]{score}[/]" if trial is best else score,
            *(_brief(point.get(key)) for key in keys),
            _left(sweep, trial, int(seen)),
        )
    return rows


def remove_stopped_checkpoints(sweep: Sweep, trials: Mapping[int, Trial]) -> None:
    """Remove the checkpoints of stopped trials, which are not resumed; snapshots, images and metrics stay."""
    for trial in trials.values():
        folder = sweep.folder / trial.name
        if trial.state == "stopped" and (folder / "checkpoints").is_dir() and not is_held(folder):
            shutil.rmtree(folder / "checkpoints", ignore_errors=True)


def start_publisher(sweep: Sweep) -> "subprocess.Popen[bytes] | None":
    """Report the sweep to MLflow in a separate process, so that failures of the server do not affect the sweep."""
    if not sweep.base.tracking.mlflow:
        return None
    command = [sys.executable, "-m", "bigtrain.sweep.publish", str(sweep.folder)]
    return subprocess.Popen(command, start_new_session=True)


def short_name(key: str) -> str:
    """Return the name of a key's column: `optim.G.lr.value` is `G.lr`, `objective.terms.r1.gamma` is `r1.gamma`."""
    parts = [part for part in key.split(".") if part != "value"]
    prefixes = (["objective", "terms"], ["optim"])
    skipped = next((len(prefix) for prefix in prefixes if parts[: len(prefix)] == prefix), len(parts) - 1)
    return ".".join(parts[skipped:])


def _brief(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else "" if value is None else str(value)


def _left(sweep: Sweep, trial: Trial, seen: int) -> str:
    speed = trial.last.img_per_s if trial.last else 0.0
    if trial.state != "running" or not speed or not math.isfinite(speed):
        return ""
    seconds = max(1000 * sweep.base.total_kimg - seen, 0) / speed
    return f"{int(seconds) // 3600}:{int(seconds) // 60 % 60:02}:{int(seconds) % 60:02}"
