"""A rank with a fault built in: `python -m tests.faults.sabotage FAULT CONFIG [KEY=VALUE ...]`.

FAULT is NAME:RANK (or NAME:all); it strikes at step 16 of the run, in a process that began before that; `gates` also
at steps 24 and 32.
"""

import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from bigtrain.engine.step import StepResult
from bigtrain.train import main as train
from bigtrain.trainer import Trainer

STEP = 16
GATES = (16, 24, 32)
ONCE = "struck"
"""A file in the run folder: some faults strike once only."""


def nan(trainer: Trainer) -> None:
    """A gradient that is not a number."""
    strategy = trainer.strategies["D"]
    backward, broken = strategy.backward, [True]

    def once(loss: torch.Tensor) -> None:
        backward(loss * float("nan") if broken.pop() else loss)
        strategy.backward = backward  # type: ignore[method-assign]

    strategy.backward = once  # type: ignore[method-assign]


def clock(trainer: Trainer) -> None:
    """The wall clock goes back by an hour."""
    now = time.time
    time.time = lambda: now() - 3600.0


def oom(trainer: Trainer) -> None:
    """No more memory, once."""
    if not (trainer.config.folder / ONCE).exists():
        (trainer.config.folder / ONCE).touch()
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize(), resource.RLIM_INFINITY))
        torch.ones(200_000_000)


def disk(trainer: Trainer) -> None:
    """Files cannot grow past 60 kB: as on a full disk, large ones cannot be written."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, resource.RLIM_INFINITY))


def gates(trainer: Trainer) -> None:
    """The training waits, until the test has seen to what it wants to do at this place of the run."""
    gate = trainer.config.folder / f"gate-{trainer.progress.step}"
    gate.with_suffix(".reached").touch()
    while not gate.exists():
        time.sleep(0.05)


def starve(trainer: Trainer) -> None:
    """The kernel kills the process, because its control group has no more memory, once."""
    group = Path(os.environ["STARVING_GROUP"])
    if not (trainer.config.folder / ONCE).exists():
        (trainer.config.folder / ONCE).touch()
        (group / "cgroup.procs").write_text(str(os.getpid()))
        torch.ones(200_000_000)


FAULTS: dict[str, Callable[[Trainer], None]] = {
    "nan": nan,
    "clock": clock,
    "oom": oom,
    "disk": disk,
    "gates": gates,
    "starve": starve,
}


def main() -> None:
    name, _, rank = sys.argv[1].partition(":")
    take_step = Trainer.take_step

    def sabotaged(trainer: Trainer) -> StepResult:
        if trainer.progress.step in (GATES if name == "gates" else (STEP,)) and rank in (os.environ["RANK"], "all"):
            FAULTS[name](trainer)
        return take_step(trainer)

    Trainer.take_step = sabotaged  # type: ignore[method-assign]
    del sys.argv[1]
    train()


if __name__ == "__main__":
    main()
