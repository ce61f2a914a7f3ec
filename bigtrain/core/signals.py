"""What signals do to processes while they start and end. Imports no torch: signals may come while that loads."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
"""The signals that ask a process to stop."""

STOPPED = 3
"""Exit code of a command that was asked to stop, and that can be given again."""

NOTHING_BEGUN = "nothing was started; run the same command again"
"""The advice of a command that has only been loaded."""

_Handler = Callable[[int, FrameType | None], object] | int | signal.Handlers | None
_before: dict[signal.Signals, _Handler] = {}


def end_on_signals(advice: str, *, at_once: bool = False) -> None:
    """From now on, let SIGTERM, SIGINT and SIGUSR1 end this process with exit code 3; a second one does so at once.

    Args:
        advice: what to do next, for the terminal.
        at_once: leave without running `finally` blocks. An exception in the middle of an import may be swallowed by the
            imported module; a process that has begun nothing leaves nothing behind.
    """

    def end(number: int, frame: FrameType | None) -> None:
        for other in SIGNALS:
            signal.signal(other, signal.SIG_DFL)
        print(f"bigtrain: stopped by {signal.Signals(number).name}; {advice}", file=sys.stderr, flush=True)
        if at_once:
            os._exit(STOPPED)
        sys.exit(STOPPED)

    for number in SIGNALS:
        _before.setdefault(number, signal.signal(number, end))


def restore_signals() -> None:
    """Let signals do again what they did before the first call of `end_on_signals`."""
    for number, handler in _before.items():
        signal.signal(number, handler)
    _before.clear()


def ignore_signals() -> None:
    """From now on, ignore the signals that ask to stop.

    The interpreter restores the default action of every signal that has a handler when it ends, and the process would
    die of one that comes then. It leaves ignored signals ignored.
    """
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def blocked_signals() -> Iterator[None]:
    """Let signals wait for the length of a block; a process that is started in it inherits that they wait.

    The new process must unblock them once it has handlers (`unblock_signals`): none is lost or kills it until then.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def unblock_signals() -> None:
    """Take the signals that have waited, and all that come from now on."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def signal_of(exit_code: int) -> str | None:
    """Return the name of the signal by which an exit code says that a process was asked to stop, 128 + its number."""
    number = exit_code - 128
    return signal.Signals(number).name if number in SIGNALS else None
