"""The ranks of a trial as processes of this machine, which end with the process that started them."""

import fcntl
import json
import signal
import subprocess
from pathlib import Path
from typing import Any, Protocol

from bigtrain.core.signals import blocked_signals
from launch.agent import CAUSE
from launch.local import agent_command, agent_environment, kill_all

_SAVE_SECONDS = 150.0
"""Time that ranks have to save their state after a signal."""


class TrialRanks(Protocol):
    """The running ranks of a trial."""

    def poll(self) -> int | None:
        """Return the exit code; None while it runs."""
        ...

    def stop(self) -> None:
        """Ask the ranks to save their state, and return when all of them have ended."""
        ...

    def why(self) -> str:
        """Return the cause of a failure, for people."""
        ...


class LocalRanks:
    """Ranks that torchrun's agent starts in a process group of their own.

    The agent stops the ranks if this process ends, for whatever reason.

    Args:
        spec: specification of the trial, see `launch.sweep.trial`.
        cores: CPU cores of the trial.
    """

    def __init__(self, spec: dict[str, Any], *, cores: float) -> None:
        folder = Path(spec["folder"])
        self._log, self._cause = folder.with_suffix(".log"), folder.with_suffix(".cause")
        self._cause.unlink(missing_ok=True)
        threads = {"OMP_NUM_THREADS": str(max(int(cores) // spec["nproc"], 1)), CAUSE: str(self._cause)}
        with self._log.open("ab") as log, blocked_signals():
            self._agent = subprocess.Popen(
                [*agent_command(spec["nproc"]), "-m", "bigtrain.train", *train_arguments(spec)],
                env={**agent_environment(spec["nproc"]), **threads},
                cwd=spec["cwd"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def poll(self) -> int | None:
        """See TrialRanks."""
        return self._agent.poll()

    def stop(self) -> None:
        """See TrialRanks."""
        if self._agent.poll() is None:
            self._agent.send_signal(signal.SIGTERM)
            try:
                self._agent.wait(_SAVE_SECONDS)
            except subprocess.TimeoutExpired:
                kill_all(self._agent.pid)
                self._agent.wait()

    def why(self) -> str:
        """See TrialRanks."""
        if self._cause.is_file():
            return self._cause.read_text()
        return last_line(self._log) or f"exit code {self._agent.returncode}"


def train_arguments(spec: dict[str, Any]) -> list[str]:
    """Return the arguments of `bigtrain.train` for a trial."""
    stop_at = spec["stop_at_kimg"]
    return [*spec["arguments"], *([] if stop_at is None else [f"stop_at_kimg={stop_at}"])]


def last_line(path: Path) -> str:
    """Return the last line of a log, for error messages."""
    lines = path.read_text(errors="replace").strip().splitlines() if path.is_file() else []
    return lines[-1].strip()[:300] if lines else ""


def stopped_by(folder: Path) -> str | None:
    """Return what stopped a run that saved its state; None if it was not stopped."""
    try:
        return str(json.loads((folder / "stopped.json").read_text())["signal"])
    except (OSError, ValueError, KeyError):
        return None


def newest_checkpoint_kimg(folder: Path) -> float:
    """Return after how many thousand images a run's newest checkpoint was made; 0 if it has none."""
    found = [path.name for path in (folder / "checkpoints").glob("kimg*[0-9]")]
    return max((float(name.removeprefix("kimg")) for name in found), default=0.0)


def is_free(folder: Path) -> bool:
    """Return whether no process trains in a run folder."""
    try:
        with (folder / "run.lock").open("r") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return True
    except OSError as error:
        return not isinstance(error, BlockingIOError)
    return True
