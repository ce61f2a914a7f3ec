"""Remember that somebody asked the process to stop. Imports no torch: signals may come while that loads."""

import atexit
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from bigtrain.core.signals import SIGNALS, ignore_signals, unblock_signals

LOST = "the loss of the launcher"
LAUNCHER = "BIGTRAIN_LAUNCHER"
"""The variable that names the process which started this one and must outlive it."""

_ECHO_SECONDS = 5.0
"""A launcher hands a signal on that its ranks may have had already: so soon, the second is the first."""

_SLURMS_OWN = (signal.SIGTERM, signal.SIGUSR1)
"""Slurm repeats these of itself (when a job is preempted, and again when its grace is over): that is no impatience."""

_JOIN_SECONDS = 60.0
"""How long a rank that was asked to stop may wait for the others to join it: one may have died of the same signal."""

_GRACE_SECONDS = 150.0
"""How long ranks whose launcher died may take to save."""

_FORCED = 128 + signal.SIGKILL
"""Exit code of a process that a second signal ends: it has not stopped in good order."""

_received: list[str] = []
_joined, _leaving = threading.Event(), threading.Event()


def catch_signals() -> None:
    """From now on, note SIGTERM, SIGINT and SIGUSR1 instead of dying of them; the same one again ends the process.

    Not so in a step of Slurm, which may have sent the second one itself.

    A thread listens, so that a second signal works while the main thread waits for another rank. If the launcher
    named by `$BIGTRAIN_LAUNCHER` dies, that is taken as a SIGTERM.
    """
    listening, telling = os.pipe()
    os.set_blocking(telling, False)
    signal.set_wakeup_fd(telling)
    os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))  # a child's signals are not for this process
    for number in SIGNALS:
        signal.signal(number, _nothing)
    unblock_signals()  # whoever started this process may have made them wait
    atexit.register(_ignore_while_ending)
    threading.Thread(target=_listen, args=(listening,), daemon=True, name="signals").start()
    if LAUNCHER in os.environ:
        threading.Thread(target=_follow, args=(int(os.environ[LAUNCHER]),), daemon=True, name="launcher").start()


@contextmanager
def signals_caught() -> Iterator[None]:
    """Treat signals as `catch_signals` does for the length of a block, and then as before.

    In a thread that is not the main one, and where signals are caught already, the block changes nothing.
    """
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(SIGNALS[0]) is _nothing:
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    catch_signals()
    try:
        yield
    finally:
        os.close(signal.set_wakeup_fd(-1))  # the listener reads its end, and leaves
        for number, handler in before.items():
            signal.signal(number, handler)
        _joined.set()  # nobody waits for other ranks any more
        _received.clear()
        _joined.clear()
        _leaving.clear()


def received() -> str | None:
    """Return what asked first: the name of a signal, or LOST; None if nothing did."""
    return _received[0] if _received else None


def joined() -> None:
    """All ranks are here, and agree on when to stop from now on."""
    _joined.set()


def leave() -> None:
    """All is saved: what is left to do ends by itself, and signals, which launchers may still send, are ignored."""
    _leaving.set()


def _ignore_while_ending() -> None:
    if signal.getsignal(SIGNALS[0]) is _nothing:
        ignore_signals()


def _nothing(number: int, frame: FrameType | None) -> None:
    """Handle a signal: the interpreter has written its number where `_listen` reads."""


def _listen(listening: int) -> None:
    first: dict[int, float] = {}
    repeated_by_slurm = _SLURMS_OWN if "SLURM_STEP_ID" in os.environ else ()
    while True:
        numbers = os.read(listening, 64)
        if not numbers:
            os.close(listening)
            return
        for number in numbers:
            came = first.setdefault(number, time.monotonic())
            again = time.monotonic() - came > _ECHO_SECONDS and number not in repeated_by_slurm
            if again and not _leaving.is_set():
                os._exit(_FORCED)
            if number in SIGNALS:
                _note(signal.Signals(number).name, exit_code=128 + number)


def _follow(launcher: int) -> None:
    while os.getppid() == launcher:
        time.sleep(0.5)
    _note(LOST, exit_code=128 + signal.SIGTERM)
    time.sleep(_GRACE_SECONDS)
    os._exit(128 + signal.SIGTERM)


def _note(reason: str, *, exit_code: int) -> None:
    if not _received:
        threading.Thread(target=_leave_unless_joined, args=(exit_code,), daemon=True, name="joining").start()
    _received.append(reason)


def _leave_unless_joined(exit_code: int) -> None:
    """Leave where the others do not come: there is nothing to save yet."""
    if not _joined.wait(_JOIN_SECONDS):
        os._exit(exit_code)
