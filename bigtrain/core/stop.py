"""Remember that somebody asked the process to stop. Imports no torch: signals may come while that loads."""

import signal
from types import FrameType

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
_received: list[int] = []


def catch_signals() -> None:
    """From now on, note SIGTERM, SIGINT and SIGUSR1 instead of dying of them; a second SIGINT kills."""
    for number in _SIGNALS:
        signal.signal(number, _note)


def received() -> str | None:
    """Return the name of the first signal that came, or None."""
    return signal.Signals(_received[0]).name if _received else None


def _note(number: int, frame: FrameType | None) -> None:
    if number == signal.SIGINT and signal.SIGINT in _received:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        raise KeyboardInterrupt
    _received.append(number)
