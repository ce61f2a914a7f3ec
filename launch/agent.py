"""torchrun, ending quietly: `python -m launch.agent ...` takes torchrun's arguments.

A signal or a rank that failed has been reported by then; torchrun would add a traceback of its own insides.
"""

import logging
import os
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import FrameType
from typing import NoReturn

import psutil

from bigtrain.core import collector
from bigtrain.core.signals import SIGNALS, ignore_signals, unblock_signals

CAUSE = "BIGTRAIN_CAUSE"
"""The variable that names the file in which to leave what the ranks failed of."""

_REPORTED = ((2,), (3,))
"""Exit codes of which a rank has said why: a mistake of the user's, and a stop."""

_UNBLOCK_SIGNALS = ("bigtrain.train", "bigtrain.run.watch")
"""Programs that take signals which have waited since before their first line; any other would stay deaf."""


def main() -> None:
    """Run torchrun; exit with the code of the first rank that failed, or with 128 + the signal that came."""
    for number in SIGNALS:
        signal.signal(number, _end)
    unblock_signals()
    threading.Thread(target=_follow, args=(os.getppid(),), daemon=True).start()
    os.environ["BIGTRAIN_LAUNCHER"] = str(os.getpid())
    sys.exit(_run())


def _end(number: int, frame: FrameType | None) -> NoReturn:
    """End at once: there are no ranks yet."""
    os._exit(128 + number)


def _run() -> int:
    with collector.paused():
        from torch.distributed import run
        from torch.distributed.elastic.multiprocessing.api import SignalException
        from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

        from launch import forked, meeting

        forked.fork_ranks(sys.argv[sys.argv.index("-m") + 1])
    meeting.register()
    logging.disable(logging.WARNING)
    logging.getLogger("torch.distributed.elastic.multiprocessing.api").addFilter(_is_news)
    beside = str(Path(os.environ[CAUSE]).parent) if CAUSE in os.environ else None

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        ignore_signals()  # the ranks are being told, once; who is impatient kills this process and them
        raise SignalException(f"got signal {number}", signal.Signals(number))

    for number in SIGNALS:
        signal.signal(number, stop)
    if set(sys.argv) & set(_UNBLOCK_SIGNALS):  # ranks inherit what this thread blocks; the other one takes signals
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        with tempfile.TemporaryDirectory(prefix="bigtrain-", dir=beside) as logs:  # torchrun would leave one of its own
            try:
                # torchrun's own handlers would raise again at each signal, also while it waits for the ranks to save.
                run.main([f"--log-dir={logs}", "--signals-to-handle=SIGHUP", *sys.argv[1:]])
            finally:
                ignore_signals()
    except SignalException as stopped:
        _kill_unrecorded()
        return 128 + int(stopped.sigval)
    except ChildFailedError as failed:
        rank, failure = failed.get_first_failure()
        _report_cause(rank, int(failure.exitcode))
        return int(failure.exitcode) if failure.exitcode > 0 else 128 - int(failure.exitcode)
    return 0


def _kill_unrecorded() -> None:
    """Kill the ranks that torchrun had started, but not noted yet, when it was interrupted: they have begun nothing."""
    for child in psutil.Process().children():
        child.kill()


def _is_news(record: logging.LogRecord) -> bool:
    """Return whether torchrun knows more about the failure of a rank than the rank itself has reported."""
    return not (isinstance(record.args, tuple) and record.args[:1] in _REPORTED)


def _report_cause(rank: int, code: int) -> None:
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    if CAUSE in os.environ:
        Path(os.environ[CAUSE]).write_text(f"rank {rank} {how}")


def _follow(parent: int) -> None:
    """Stop the ranks when the process that started this one is gone: nobody else would."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    collector.spare_the_end()
    main()
