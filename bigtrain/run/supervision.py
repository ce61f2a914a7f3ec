"""Start a run's ranks again when they fail."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from bigtrain.core.logging import log
from bigtrain.core.presence import read_heartbeat, wait_until_free
from bigtrain.core.signals import signal_of
from bigtrain.core.stop import LOST
from bigtrain.distributed.watchdog import HUNG, newest_verdict
from bigtrain.run.folder import forget_stop, read_stopped
from bigtrain.tracking.events import EventLog

_FINAL = (0, 2, 3)
"""Exit codes after which there is nothing to try again: complete, a mistake of the user's, stopped. Also 128 + a signal
that asks to stop: the ranks had nothing to save yet."""

_LONGEST_WAIT = 60.0


class LauncherExit(Protocol):
    """How ranks ended: their exit code, and the cause in words."""

    @property
    def code(self) -> int: ...  # noqa: D102
    @property
    def cause(self) -> str: ...  # noqa: D102


def supervise(
    folder: Path, launch: Callable[[], LauncherExit], asked: Callable[[], str | None], *, max_restarts: int
) -> int:
    """Let ranks train until they are done, were stopped, or have failed once too often.

    A restart is immediate where the run has come further since the last one; else it waits, longer each time.

    Args:
        folder: the run folder.
        launch: starts the ranks, and returns when they have ended.
        asked: names the signal by which somebody asked this process to stop, if so.
        max_restarts: how often to start again.

    Returns:
        The exit code of the last ranks.
    """
    restarts, vain, reached = 0, 0, -1
    while True:
        forget_stop(folder)
        ending = launch()
        free = wait_until_free(folder)  # ranks that lost their launcher are still saving
        stopped = _was_stopped(folder, by_default=signal_of(ending.code) is not None)
        final = ending.code in _FINAL or asked() or stopped
        if final or restarts == max_restarts or not free:
            return ending.code
        restarts += 1
        before, reached = reached, int(read_heartbeat(folder).get("samples_seen", 0))
        vain = 0 if reached > before else vain + 1
        wait = min(2.0**vain, _LONGEST_WAIT) if vain else 0.0
        cause = newest_verdict(folder) if ending.code == HUNG else ending.cause
        log.warning("%s; restart %d of %d", cause, restarts, max_restarts)
        if folder.is_dir():
            EventLog(folder).append("restart", kimg=reached / 1000, cause=cause, number=restarts, of=max_restarts)
        until = time.monotonic() + wait
        while time.monotonic() < until and not asked():
            time.sleep(0.1)
        if asked():
            return ending.code


def _was_stopped(folder: Path, *, by_default: bool) -> bool:
    """Tell whether the ranks were asked to stop; to lose their launcher is no such request.

    Args:
        folder: the run folder.
        by_default: the answer where the ranks left no word.
    """
    stopped = read_stopped(folder)
    return by_default if stopped is None else stopped["signal"] != LOST
