"""Console output: rank 0 writes, the other ranks are silent."""

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from bigtrain.core.state import Progress
from data_pipelines.secrets import hide_secrets

log = logging.getLogger("bigtrain")
crash_log = logging.getLogger("bigtrain.crash")
"""For the file alone: the terminal gets a traceback anyway."""
crash_log.propagate = False
crash_log.addHandler(logging.NullHandler())
console = Console(highlight=False, soft_wrap=True)


def set_up_logging(*, rank: int = 0) -> None:
    """Send bigtrain's log to the terminal: from rank 0 everything, from the others warnings."""
    handler = _ConsoleHandler()
    handler.setFormatter(_WithoutSecrets("%(asctime)s  %(message)s", datefmt="%H:%M:%S"))
    for logger in (log, logging.getLogger("data_pipelines")):
        logger.handlers[:] = [handler]
        logger.setLevel(logging.INFO if rank == 0 else logging.WARNING)
        logger.propagate = False


def log_to_file(path: Path, *, rank: int = 0) -> None:
    """Keep the log in a file too, and what a process dies of; a rank that has nothing to say makes no file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = _FileHandler(path, encoding="utf-8", delay=rank > 0)
    handler.setFormatter(_WithoutSecrets("%(asctime)s  %(message)s"))
    for logger in (log, logging.getLogger("data_pipelines")):
        logger.addHandler(handler)
    crash_log.handlers[:] = [handler]


def close_log_file() -> None:
    """End what `log_to_file` began."""
    for handler in [one for one in (*log.handlers, *crash_log.handlers) if isinstance(one, _FileHandler)]:
        for logger in (log, logging.getLogger("data_pipelines"), crash_log):
            logger.removeHandler(handler)
        with contextlib.suppress(OSError):  # a full disk takes no last lines, and hides no failure that is on its way
            handler.close()


class _WithoutSecrets(logging.Formatter):
    """Formats a record, its traceback included, without the secrets in it: logs are copied to MLflow and to people."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, or the lines."""
        return hide_secrets(super().format(record))


class _FileHandler(logging.FileHandler):
    """Ignore a full disk here: what cannot go on without disk space reports it itself."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        pass


class _ConsoleHandler(logging.Handler):
    """Prints whole lines above a progress bar that may be running."""

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError):  # it may go to a file, on a disk that is full
            console.print(self.format(record), markup=False)


@contextlib.contextmanager
def answering_in_json(asked: bool) -> Iterator[None]:
    """Keep standard output for an answer in JSON, if one is asked for: the log and tables go to standard error."""
    before, console.stderr = console.stderr, asked
    try:
        yield
    finally:
        console.stderr = before


def progress_bars() -> Bars:
    """Return the one style of progress bar."""
    return Bars(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
        speed_estimate_period=3600.0,  # long enough for a training's evaluations to be a part of it
    )


@contextlib.contextmanager
def counted(what: str, total: int | None, *, visible: bool = True) -> Iterator[Callable[[int], None]]:
    """Show a progress bar for a block.

    Args:
        what: description of the work.
        total: number of units of work; None if it is not known, for a bar that only moves.
        visible: whether this process shows the bar.

    Yields:
        A function that is told how many units have been done since its last call.
    """
    with progress_bars() as bars:
        task = bars.add_task(what, total=total, note="", visible=visible)
        yield lambda count: bars.advance(task, count)


class Display:
    """The training's progress: a bar where there is a terminal, a line at each log interval where there is none.

    Args:
        progress: of the run.
        active: whether this is rank 0.
    """

    def __init__(self, progress: Progress, *, active: bool) -> None:
        self._progress, self._active = progress, active
        self._bars = progress_bars()

    def __enter__(self) -> Self:
        """Show the bar."""
        if self._active:
            self._task = self._bars.add_task("training", total=self._progress.total, note="")
            self._bars.update(self._task, completed=self._progress.samples_seen)
            if console.is_terminal:
                self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Take the bar away."""
        if self._active:
            self._bars.stop()

    @contextlib.contextmanager
    def during(self, event: str) -> Iterator[None]:
        """Show the name of what interrupts training, such as an evaluation."""
        if self._active:
            self._bars.update(self._task, description=f"training ({event})")
        yield
        if self._active:
            self._bars.update(self._task, description="training")

    def update(self, metrics: Mapping[str, float]) -> None:
        """Show how far the run is and its latest metrics."""
        if not self._active:
            return
        speed = metrics.get("time/img_per_s", 0.0)
        note = f"kimg {self._progress.kimg:.1f}/{self._progress.total / 1000:g}  {speed:.0f} img/s"
        self._bars.update(self._task, completed=self._progress.samples_seen, note=note)
        if not console.is_terminal:
            left = metrics.get("time/left_s", 0.0)
            losses = "  ".join(f"{name} {metrics[name]:.3f}" for name in sorted(metrics) if name.startswith("loss/"))
            log.info("%s  %s  ETA %d:%02d", note, losses, *divmod(round(left), 60))
