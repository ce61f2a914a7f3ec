"""Does MLflow cost training anything, whatever happens to its server? Prints the table of `tracking.md`.

    python -m benchmarks.tracking DATA [--seconds 10]

DATA is a folder of Fashion-MNIST shards (`bigtrain data prepare fashion-mnist-10k DATA`). A real `mlflow server` on
Debian's PostgreSQL is reached through a line that delays, swallows or refuses (`tests/integration/mlflow_server.py`).
One run (`tests/tiny.yaml`, one rank, one thread) trains through all of these, one after the other; before and after it
trains the same without MLflow. Beside the clock, which tells of whatever else the machine does, the CPU time of the
training process is read, and that of the sender. In the end the database must have every point of the spool, once.
"""

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from bigtrain.tracking.spool import read_metrics, read_records
from tests.integration.mlflow_server import FaultyLine, MlflowServer, Server, postgres

ROOT = Path(__file__).parent.parent
STEPS, BATCH = 4, 16
"""Steps between two points, and their images."""
FAULTS = {
    "none": "well",
    "slow": "slow: each answer 2 s late",
    "hung": "hung: no answer ever",
    "dead": "dead: connections are cut",
    "unauthorised": "refusing the password (401)",
    "failing": "out of disk (507)",
    "full": "well, but the run folder's disk is full",
    "none again": "well again",
}


@contextlib.contextmanager
def training(folder: Path, data: str, *options: str) -> Iterator[subprocess.Popen[str]]:
    """Train until the end of the block, then stop as Slurm does."""
    config = [str(ROOT / "tests" / "tiny.yaml"), f"data.path={data}", f"run_dir={folder}", "total_kimg=1000"]
    never = [f"{key}.interval_kimg=0" for key in ("eval", "preview", "snapshot")]
    often = [f"log.interval_kimg={STEPS * BATCH / 1000}", "checkpoint.interval_kimg=900"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "bigtrain.train", *config, *never, *often, *options]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        while not (folder / "metrics.jsonl").is_file() and process.poll() is None:
            time.sleep(0.1)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: int = 40) -> Iterator[Path]:
    """Mount a disk that is soon full; needs root."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@dataclass
class Span:
    """What was measured while a server behaved in one way.

    Attributes:
        clock: milliseconds a step, of each interval between two points.
        cpu: milliseconds a step that the training process computed.
        sender: share of a core that the processes beside it took.
    """

    clock: list[float]
    cpu: float
    sender: float


class Meter:
    """Reads a training from outside."""

    def __init__(self, process: psutil.Process, folder: Path) -> None:
        self._process, self._folder = process, folder
        self._at, self._cpu, self._beside, self._steps = time.time(), self._own(), self._others(), self._seen()

    def read(self) -> Span:
        """Return what happened since the meter was made."""
        steps, seconds = self._seen() - self._steps, time.time() - self._at
        clock = [
            record["metrics"]["time/sec_per_kimg"] * BATCH
            for record, _ in read_records(self._folder / "metrics.jsonl")
            if record["kind"] == "metrics" and record["time_ms"] / 1000 > self._at + 1
        ]
        cpu = 1000 * (self._own() - self._cpu) / max(steps, 1)
        return Span(clock, cpu, (self._others() - self._beside) / seconds)

    def _own(self) -> float:
        times = self._process.cpu_times()
        return times.user + times.system

    def _others(self) -> float:
        times = [child.cpu_times() for child in self._process.children(recursive=True)]
        return sum(one.user + one.system for one in times)

    def _seen(self) -> float:
        places = [record["samples_seen"] for record, _ in read_records(self._folder / "metrics.jsonl")]
        return max(places, default=0) / BATCH


def untracked(folder: Path, data: str, seconds: float) -> Span:
    with training(folder, data, "tracking.mlflow=false") as process:
        while len(list(read_records(folder / "metrics.jsonl"))) < 6:
            time.sleep(0.1)
        meter = Meter(psutil.Process(process.pid), folder)
        time.sleep(seconds)
        return meter.read()


def tracked(disk: Path, data: str, server: Server, seconds: float) -> tuple[dict[str, Span], str, Path]:
    """Train through all faults; return what was measured in each, what was said, and the run folder."""
    spans, folder = {}, disk / "run"
    with FaultyLine(int(server.url.rsplit(":", 1)[1])) as line:
        with training(folder, data, f"tracking.uri={line.url}", "tracking.flush_seconds=60") as process:
            watched = psutil.Process(process.pid)
            while len(list(read_records(folder / "metrics.jsonl"))) < 6:
                time.sleep(0.1)
            meter = Meter(watched, folder)
            while not (folder / "mlflow.json").is_file():
                time.sleep(0.1)
            spans["starting up, no run there yet"] = meter.read()
            for fault, title in FAULTS.items():
                line.fault = "none" if fault == "full" else fault.split()[0]
                filler = disk / "filler"
                if fault == "full":
                    with contextlib.suppress(OSError):
                        filler.write_bytes(b"\0" * (1 << 26))
                meter = Meter(watched, folder)
                time.sleep(seconds)
                filler.unlink(missing_ok=True)
                if fault == "full":
                    time.sleep(2)  # what waited is written
                spans[title] = meter.read()
        _, said = process.communicate(timeout=180)
    return spans, said, folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        root.chmod(0o755)
        with (
            postgres() as database,
            MlflowServer(root, database.address) as mlflow,
            small_disk(root / "disk") as disk,
        ):
            server = Server(mlflow.url, database.address)
            before = untracked(root / "before", options.data, options.seconds)
            spans, said, folder = tracked(disk, options.data, server, options.seconds)
            after = untracked(root / "after", options.data, options.seconds)
            rows = {"– (without MLflow, before)": before, **spans, "– (without MLflow, after)": after}
            base = (before.cpu + after.cpu) / 2
            print("| the server is | CPU ms a step | relative | clock, ms a step: median (quartiles) | beside |")
            print("|---|---|---|---|---|")
            for name, span in rows.items():
                low, middle, high = statistics.quantiles(span.clock, n=4)
                clock = f"{middle:.0f} ({low:.0f} to {high:.0f})"
                print(f"| {name} | {span.cpu:.1f} | {span.cpu / base:.3f} | {clock} | {span.sender:.0%} |")
            sync = [str(Path(sys.executable).parent / "bigtrain"), "sync", str(folder), "--uri", mlflow.url]
            run_ids = set()
            for _ in range(2):
                subprocess.run(sync, check=True)
                run_ids.add(json.loads((folder / "mlflow.json").read_text())["run_id"])
            (run_id,) = run_ids
            stored = server.query(
                "select count(*) from metrics where run_uuid = %s and key not like 'system/%%'", run_id
            )
            spooled = sum(map(len, read_metrics(folder).values()))
            print(f"\nstored {stored[0][0]} points, spooled {spooled}; the run said:\n{said}")


if __name__ == "__main__":
    main()
