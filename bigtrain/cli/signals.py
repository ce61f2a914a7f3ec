"""What a signal does to a command that has nothing to save: it ends with one line, and the same command goes on."""

import signal
import sys
from types import FrameType

from bigtrain.core.stop import SIGNALS

STOPPED = 3
"""Exit code of a command that was asked to stop, and that can be given again."""


def end_on_signals(advice: str) -> None:
    """From now on, let SIGTERM, SIGINT and SIGUSR1 end this process with exit code 3; a second one does so at once.

    Args:
        advice: what to do next, for the terminal.
    """

    def end(number: int, frame: FrameType | None) -> None:
        for other in SIGNALS:
            signal.signal(other, signal.SIG_DFL)
        print(f"bigtrain: stopped by {signal.Signals(number).name}; {advice}", file=sys.stderr, flush=True)
        sys.exit(STOPPED)

    for number in SIGNALS:
        signal.signal(number, end)
