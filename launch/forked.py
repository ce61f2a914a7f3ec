"""Ranks as copies of the agent, which has imported their program: a node imports it once, for all of its ranks.

A rank of its own needs 3.6 seconds of a processor to import PyTorch and bigtrain; a copy needs none, and shares the
memory of what was imported (docs/decisions/0074-ranks-are-copies-of-the-agent.md). Importing must therefore start no
thread that computes and touch no GPU: `tests/integration/test_imports.py` holds this.
"""

import atexit
import contextlib
import gc
import importlib
import io
import logging
import os
import runpy
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import psutil
from torch.distributed.elastic.multiprocessing import api
from torch.distributed.elastic.multiprocessing.subprocess_handler import SubprocessHandler

from bigtrain.core.signals import SIGNALS


class ForkedProcess:
    """A child process of this one, with those methods of `subprocess.Popen` that torchrun uses.

    Args:
        pid: of the child.

    Attributes:
        pid: of the child.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._process = psutil.Process(pid)

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal; None while the process runs."""
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end of the process, and return its exit code.

        Args:
            timeout: how many seconds to wait at most; None for as long as it takes.

        Raises:
            subprocess.TimeoutExpired: the process still runs.
        """
        try:
            return int(self._process.wait(timeout))
        except psutil.TimeoutExpired as still_runs:
            raise subprocess.TimeoutExpired(str(self.pid), still_runs.seconds) from None


class ForkedRank(SubprocessHandler):
    """What torchrun holds of a rank; see `SubprocessHandler` for its arguments."""

    def _popen(self, args: tuple[str, ...], env: dict[str, str]) -> ForkedProcess:  # type: ignore[override]
        module, *words = args[args.index("-m") + 1 :]
        for stream in (sys.stdout, sys.stderr):
            stream.flush()  # else the copy would write again what waits here
        pid = os.fork()
        if not pid:
            _be_a_rank(module, words, env)
        return ForkedProcess(pid)


def fork_ranks(module: str) -> None:
    """Let torchrun start ranks that run `python -m module` as copies of this process, and import what they need.

    Args:
        module: the program of the ranks.
    """
    with contextlib.suppress(Exception):  # the ranks meet the same error, and know how to report it
        importlib.import_module(module)
        del sys.modules[module]  # it becomes __main__ in the ranks
    gc.freeze()
    vars(api)["get_subprocess_handler"] = ForkedRank


def _be_a_rank(module: str, words: Sequence[str], environment: Mapping[str, str]) -> NoReturn:
    """Run a module as a new process of Python would, and end as it would, except for the agent's own objects."""
    os.setsid()
    os.environ.update(environment)
    logging.disable(logging.NOTSET)
    atexit._clear()
    for number in (*SIGNALS, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    with contextlib.suppress(OSError):
        Path("/proc/self/comm").write_text(f"rank{environment['RANK']} bigtrain")  # its name in `top`
    sys.argv[1:] = words
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(write_through=True)  # as with `python -u`
    code: object = 0
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        code = ended.code
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    if isinstance(code, str):
        print(code, file=sys.stderr)
    with contextlib.suppress(BaseException):
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))
