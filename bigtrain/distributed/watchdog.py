"""Detect that a rank hangs, save the stacks of all ranks, name the rank at fault, and end the run for a restart.

A rank that is stopped, or waits for ever, makes all others wait in the next collective operation, where nothing tells
whose fault it is. So every rank has a thread that shows signs of life in the group's store: how often the training
reported where it is, and how many collective operations it has begun. When one rank's training has not moved for too
long, it calls the alarm: every rank writes down where it stands, the rank that called compares the signs of life and
says who keeps the others waiting, and all leave with exit code 4. The same command goes on from the last checkpoint.

A GPU is watched by events, because the host runs ahead of it: a kernel that hangs is found by the limit of the phase
that it belongs to, wherever the host waits.
"""

import contextlib
import faulthandler
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from pydantic import PositiveFloat
from torch.distributed import distributed_c10d as c10d

from bigtrain.core.config import Config
from bigtrain.core.logging import log
from bigtrain.distributed.device_progress import DeviceProgress
from bigtrain.distributed.init import Ranks
from bigtrain.distributed.verdict import Sign, diagnose
from data_pipelines.secrets import print_line

HUNG = 4
"""Exit code of a run that hung and was ended; the same command goes on from its last checkpoint."""
_TIME, _FOLDER = "%Y%m%d-%H%M%S", re.compile(r"\d{8}-\d{6}")


class WatchdogConfig(Config):
    """When a run is considered hung.

    Attributes:
        step_seconds: maximum duration of a phase of a step; null switches the watchdog off.
        pause_seconds: maximum time between two steps, which may contain an evaluation, a checkpoint, or the compilation
            for the first step.
    """

    step_seconds: PositiveFloat | None = 300.0
    pause_seconds: PositiveFloat = 3600.0

    @property
    def longest(self) -> float:
        """The longest time that anything may take, in seconds."""
        return max(self.step_seconds or 0.0, self.pause_seconds)

    @property
    def collective_minutes(self) -> float:
        """When a collective operation gives up by itself: after the watchdog, which can say whose fault it is."""
        return 10.0 if self.step_seconds is None else max(2 * self.longest / 60, 10.0)


class Watchdog:
    """One rank's part in the watch; a context that lasts as long as the training.

    Args:
        config: how long is too long.
        ranks: this process's place.
        folder: where the stacks go: `<folder>/hangs/<time>/rank-N.txt`.
    """

    def __init__(self, config: WatchdogConfig, ranks: Ranks, folder: Path) -> None:
        self._config, self._ranks, self._folder = config, ranks, folder / "hangs"
        self._where, self._beats, self._limit = "start", 0, config.longest
        self._stepped = False
        self._moved = time.monotonic()
        self._device = DeviceProgress() if ranks.device.type == "cuda" else None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._tick_seconds = min((config.step_seconds or 0.0) / 10, 5.0)

    def __enter__(self) -> Self:
        """Begin to watch."""
        if self._config.step_seconds is not None:
            self._store = _own_store()
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Watch no more; a run that fails by itself needs no verdict."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()
            faulthandler.cancel_dump_traceback_later()

    def beat(self, where: str, *, pause: bool = False) -> None:
        """Report that the training has come to `where`; costs nothing.

        Args:
            where: a phase, or what is done between the steps.
            pause: whether `pause_seconds` count until the next report, instead of `step_seconds`; they do as well until
            the first step is over, which may compile.
        """
        self._stepped = self._stepped or pause
        unhurried = pause or not self._stepped
        self._where = where
        self._limit = self._config.longest if unhurried else self._config.step_seconds or 0.0
        self._moved = time.monotonic()
        self._beats += 1
        if self._device is not None and self._config.step_seconds is not None:
            self._device.mark(where, self._limit)

    def _watch(self) -> None:
        if self._ranks.device.type == "cuda":
            torch.cuda.set_device(self._ranks.device)  # a thread begins on GPU 0
        while not self._over.wait(self._tick_seconds):
            stuck = self._stuck()
            try:
                self._show()
                alarm = self._store.check(["alarm"])
                if stuck and not alarm:
                    self._where, self._limit = stuck
                    mine = str(self._ranks.rank)
                    if self._store.compare_set("alarm", "", mine).decode() == mine:
                        self._call()
                    alarm = True
            except (RuntimeError, OSError) as error:  # whoever holds the store is gone or stands still
                if stuck:
                    self._where, self._limit = stuck
                    self._dump(time.strftime(_TIME))
                    self._leave(f"hung in {self._where}, and the group's store does not answer ({error})")
                continue
            if alarm:
                self._follow()
            # Where another thread holds the interpreter for good, this one cannot run: then C code ends the process.
            faulthandler.dump_traceback_later(2 * self._config.longest, exit=True, file=2)

    def _stuck(self) -> tuple[str, float] | None:
        """Return the place in which the host or the GPU has been for too long, and how long it may; None for neither.

        A GPU's place goes first: while its kernel hangs, the host waits somewhere else.
        """
        place = self._device.place() if self._device is not None else None
        if place is not None and place.overdue:
            return f"{place.where} on the GPU", place.limit
        return (self._where, self._limit) if time.monotonic() - self._moved > self._limit else None

    def _show(self) -> None:
        """Put a new sign of life into the store."""
        rank, host, pid, tick = self._ranks.rank, socket.gethostname(), os.getpid(), time.monotonic_ns()
        done = self._device.reached if self._device is not None else 0
        sign = Sign(rank, host, pid, tick, self._beats, _collectives_begun(), self._where, done)
        self._store.set(f"sign/{rank}", json.dumps(asdict(sign)))

    def _call(self) -> None:
        """Have all ranks write down where they stand, and say who is to blame."""
        name = time.strftime(_TIME)
        self._store.set("folder", name)
        self._dump(name)
        before = self._signs()
        self._over.wait(4 * self._tick_seconds + 1)  # a process that runs shows another sign in this time
        self._show()
        after = self._signs()
        verdict = diagnose(before, after, world_size=self._ranks.world_size)
        for sign in verdict.culprits:
            if sign.host == socket.gethostname():
                _dump_other(sign.pid, self._folder / name / f"rank-{sign.rank}-from-outside.txt")
        text = f"no progress for {self._limit:g} s: {verdict.text}; the stacks are in {self._folder / name}"
        (self._folder / name / "verdict.txt").write_text(text + "\n")
        self._store.set("verdict", text)
        for sign in verdict.culprits:
            if sign.host == socket.gethostname() and sign.pid != os.getpid():
                with contextlib.suppress(OSError):
                    os.kill(sign.pid, signal.SIGCONT)  # one that was stopped shall read the verdict and leave too
        log.error("watchdog: %s", text)
        self._leave(text)

    def _follow(self) -> None:
        """Do what the rank that called the alarm waits for, and leave with it."""
        name = "unknown"
        deadline = time.monotonic() + 8 * self._tick_seconds + 30
        while not self._over.is_set() and time.monotonic() < deadline:
            if name == "unknown" and self._store.check(["folder"]):
                name = _checked(self._store.get("folder").decode())
                self._dump(name)
            if self._store.check(["verdict"]):
                self._leave(self._store.get("verdict").decode())
            self._show()
            time.sleep(self._tick_seconds / 2)
        if not self._over.is_set():
            self._leave("an alarm was raised, but there was no verdict")

    def _signs(self) -> dict[int, Sign]:
        keys = {rank: f"sign/{rank}" for rank in range(self._ranks.world_size)}
        if not self._store.check(list(keys.values())):  # some have never shown one
            keys = {rank: key for rank, key in keys.items() if self._store.check([key])}
        found = self._store.multi_get(list(keys.values()))  # at once: a thousand ranks are a thousand answers else
        return {rank: Sign(**json.loads(sign)) for rank, sign in zip(keys, found, strict=True)}

    def _dump(self, name: str) -> None:
        """Write this rank's Python stacks, its latest collective operations, and native stacks where possible."""
        folder = self._folder / name
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"rank-{self._ranks.rank}.txt").open("w") as file:
            file.write(f"rank {self._ranks.rank}, host {socket.gethostname()}, pid {os.getpid()}, in {self._where}\n")
            file.flush()
            faulthandler.dump_traceback(file)
        for backend, recorded in _recorded_collectives().items():
            (folder / f"{backend}-rank-{self._ranks.rank}.json").write_bytes(recorded)

    def _leave(self, text: str) -> None:
        """End the process, whatever the main thread waits for."""
        if not self._over.is_set():
            print_line(f"rank {self._ranks.rank} leaves: {text}")
            os._exit(HUNG)


def newest_verdict(run: Path) -> str:
    """Return what the watchdog of a run said last of who kept the others waiting."""
    found = sorted((run / "hangs").glob("*/verdict.txt"))
    return found[-1].read_text().strip() if found else "it hung"


def _checked(name: str) -> str:
    """Return the name of an alarm's folder, from the store; `unknown` for a text that no rank puts there."""
    return name if _FOLDER.fullmatch(name) else "unknown"


def _own_store() -> c10d.Store:
    """Return the group's store through a connection of its own: the training may block on the other one."""
    store = c10d._get_default_store()
    with contextlib.suppress(RuntimeError):  # a process alone has its store in its own memory
        store = store.clone()
        store.set_timeout(timedelta(seconds=20))
    return c10d.PrefixStore("watchdog", store)


def _collectives_begun() -> int:
    """Count this rank's collective operations so far, over all groups that it belongs to and all their backends."""
    begun = 0
    for group in list(c10d._world.pg_map):
        backends: dict[int, Any] = {}  # one backend may serve both devices
        for device in ("cpu", "cuda"):
            with contextlib.suppress(RuntimeError):  # none for this device
                backend = group._get_backend(torch.device(device))
                backends[id(backend)] = backend
        for backend in backends.values():
            with contextlib.suppress(RuntimeError):  # no operation yet
                begun += backend._get_sequence_number_for_group()
    return begun


def _recorded_collectives() -> dict[str, bytes]:
    """Return what PyTorch's flight recorders hold of the latest operations (JSON); `join_ranks` turns them on.

    Gloo and NCCL have one each; the files are called by their names.
    """
    recorders = {"collectives": "_dump_fr_trace_json", "nccl": "_dump_nccl_trace_json"}
    if "nccl" not in c10d.get_backend_config():
        del recorders["nccl"]
    return {name: getattr(torch._C._distributed_c10d, function)() for name, function in recorders.items()}


def _dump_other(pid: int, path: Path) -> None:
    """Write the stacks of a process that cannot do it itself, from outside."""
    py_spy = shutil.which("py-spy", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    command = [py_spy or "py-spy", "dump", "--nonblocking", "--pid", str(pid)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        text = done.stdout or f"py-spy could not read the process: {done.stderr}"
    except (OSError, subprocess.SubprocessError) as error:
        text = f"py-spy could not be run: {error}\n"
    path.write_text(f"{' '.join(command)}:\n{text}")
