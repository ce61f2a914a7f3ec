"""Tables whose cells are runs of `bigtrain train`, each on one rank and one thread."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from bigtrain.tracking.spool import read_metrics

BIGTRAIN = Path(sys.executable).parent / "bigtrain"


@dataclass(frozen=True)
class Cell:
    """One run.

    Attributes:
        config: its file.
        name: of its folder.
        overrides: of the config.
    """

    config: Path
    name: str
    overrides: tuple[str, ...]

    def score(self, runs: Path) -> list[tuple[float, float]]:
        """Return the scores so far as points (kimg, Fréchet distance)."""
        curves = read_metrics(runs / self.name)
        return next((list(points) for name, points in curves.items() if name.startswith("eval/fid")), [])

    def is_done(self, runs: Path) -> bool:
        """Tell whether the run has ended as planned."""
        return (runs / self.name / "curves.png").is_file()

    def run(self, runs: Path, data: Path) -> None:
        """Train, or go on, unless it is done."""
        if self.is_done(runs):
            return
        began = time.perf_counter()
        command = [BIGTRAIN, "train", self.config, f"run_dir={runs / self.name}", f"data.path={data}", *self.overrides]
        done = subprocess.run(
            command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        minutes = (time.perf_counter() - began) / 60
        state = f"{self.score(runs)[-1][1]:.1f}" if done.returncode == 0 else done.stderr.decode().strip()[-300:]
        print(f"{self.name:48} {minutes:5.1f} min  {state}", flush=True)


def run_all(cells: Sequence[Cell], runs: Path, data: Path, *, jobs: int) -> None:
    """Run what is not done yet, some at a time, on Fashion-MNIST's shards, which are made if they are missing."""
    if not (data / "manifest.json").is_file():
        subprocess.run([BIGTRAIN, "data", "prepare", "fashion-mnist-10k", data], check=True)
    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(lambda cell: cell.run(runs, data), cells))


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
