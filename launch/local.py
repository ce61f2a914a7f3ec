"""Start the ranks of a run on this machine, through torchrun."""

import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import psutil

from bigtrain.core.launchers import COMMAND
from bigtrain.core.signals import SIGNALS, blocked_signals

_ECHO_SECONDS = 0.5


@dataclass(frozen=True)
class LauncherExit:
    """The outcome of a launch.

    Attributes:
        code: 0, the exit code of the first rank that failed, or 128 + the signal that ended it or the launcher.
        cause: what failed, in words.
    """

    code: int
    cause: str


class Launcher:
    """Starts `python -m module arguments` on some ranks, any number of times, and passes signals on to them.

    Args:
        module: of bigtrain, run by every rank.
        arguments: of its command line.
        nproc: ranks, which share this machine's cores.
        shutdown_seconds: how long the ranks may take to save after a signal.

    Attributes:
        asked: name of the first signal that came; a second one kills the ranks.
        forced: whether a second one came.
    """

    def __init__(self, module: str, arguments: Sequence[str], *, nproc: int, shutdown_seconds: int = 120) -> None:
        self._nproc, self._shutdown_seconds = nproc, shutdown_seconds
        self._call = ["-m", module, *arguments]
        self._environment = agent_environment(nproc)
        self.asked: str | None = None
        self.forced = False
        self._asked_at = 0.0
        self._pending_signal: int | None = None
        self._agent: subprocess.Popen[bytes] | None = None
        for number in SIGNALS:
            signal.signal(number, self._pass_on)

    def run(self) -> LauncherExit:
        """Start the ranks and wait for their end."""
        with tempfile.TemporaryDirectory(prefix="bigtrain-") as folder:
            cause_file = Path(folder) / "cause"
            # A session of its own: Ctrl-C reaches this process alone, which passes it on once.
            with blocked_signals():
                self._agent = subprocess.Popen(
                    [*agent_command(self._nproc, shutdown_seconds=self._shutdown_seconds), *self._call],
                    env={**self._environment, "BIGTRAIN_CAUSE": str(cause_file), COMMAND: str(os.getpid())},
                    start_new_session=True,
                )
            if self._pending_signal is not None:
                self._agent.send_signal(self._pending_signal)
            code = self._agent.wait()
            self._agent = None
            if cause_file.is_file():
                return LauncherExit(code, cause_file.read_text())
        if code < 0:
            return LauncherExit(128 - code, f"the launcher was killed by {signal.Signals(-code).name}")
        return LauncherExit(code, f"the launcher ended with exit code {code}")

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        again = self.asked is not None and time.monotonic() - self._asked_at > _ECHO_SECONDS
        self.asked, self._asked_at = self.asked or signal.Signals(number).name, time.monotonic()
        if self._agent is None:  # it is just being started
            self._pending_signal = number
            return
        if again:
            self.forced = True
            kill_all(self._agent.pid)
        else:
            self._agent.send_signal(number)


def agent_command(nproc: int, *, shutdown_seconds: int = 120) -> list[str]:
    """Return how to call the agent that starts `nproc` ranks; what each of them runs comes after it.

    Args:
        nproc: ranks.
        shutdown_seconds: how long they may take to save after a signal.
    """
    command = [sys.executable, "-m", "launch.agent", f"--nproc-per-node={nproc}", f"--rdzv-id={uuid.uuid4()}"]
    return [*command, "--rdzv-backend=loopback", "--local-addr=127.0.0.1", f"--shutdown-timeout={shutdown_seconds}"]


def agent_environment(nproc: int) -> dict[str, str]:
    """Return what the agent of `nproc` ranks finds in its environment; the ranks talk over the loopback interface."""
    loopback = {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"} if sys.platform == "linux" else {}
    return {
        "OMP_NUM_THREADS": str(max((os.cpu_count() or 1) // nproc, 1)),
        "TORCHELASTIC_ERROR_FILE": os.devnull,
        **loopback,
        **os.environ,
    }


def run_ranks(module: str, arguments: Sequence[str], *, nproc: int) -> int:
    """Run `python -m module arguments` on `nproc` ranks once; return the exit code, see `LauncherExit`."""
    return Launcher(module, arguments, nproc=nproc).run().code


def kill_all(process: int) -> None:
    """Kill a process and all that it started, directly or not."""
    try:
        family = psutil.Process(process).children(recursive=True)
    except psutil.NoSuchProcess:
        return
    for one in [*family, psutil.Process(process)]:
        try:
            one.kill()
        except psutil.NoSuchProcess:
            continue
