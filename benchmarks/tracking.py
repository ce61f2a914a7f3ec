"""Does MLflow cost training anything, whatever happens to its server? Prints the table of `tracking.md`.

    python -m benchmarks.tracking DATA [--seconds 10]

DATA is a folder of Fashion-MNIST shards (`bigtrain data prepare fashion-mnist-10k DATA`). A real `mlflow server` on
Debian's PostgreSQL is reached through a line that delays, swallows or refuses (`tests/integration/mlflow_server.py`).
One run (`tests/tiny.yaml`, one rank, one thread) trains through all of these, one after the other; before and after it
trains the same without MLflow. In the end the database must have every point of the spool, once.
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
from pathlib import Path

from bigtrain.tracking.spool import read_metrics, read_records
from tests.integration.mlflow_server import FaultyLine, Server, mlflow_server, postgres

ROOT = Path(__file__).parent.parent
STEPS = 4
"""Steps of 16 images between two points."""


@contextlib.contextmanager
def training(folder: Path, data: str, *options: str) -> Iterator[subprocess.Popen[str]]:
    """Train until the end of the block, then stop as Slurm does."""
    config = [str(ROOT / "tests" / "tiny.yaml"), f"data.path={data}", f"run_dir={folder}", "total_kimg=1000"]
    never = [f"{key}.interval_kimg=0" for key in ("eval", "preview", "snapshot")]
    often = [f"log.interval_kimg={STEPS * 0.016}", "checkpoint.interval_kimg=900"]
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


def step_times(folder: Path, began: float, ended: float) -> list[float]:
    """Return milliseconds a step of the points that were reported in a span of time, without its first second."""
    found = []
    for record, _ in read_records(folder / "metrics.jsonl"):
        if record["kind"] == "metrics" and began + 1 < record["time_ms"] / 1000 < ended:
            found.append(record["metrics"]["time/sec_per_kimg"] * 16)
    return found


def untracked(folder: Path, data: str, seconds: float) -> list[float]:
    with training(folder, data, "tracking.mlflow=false"):
        time.sleep(2)
        began = time.time()
        time.sleep(seconds)
    return step_times(folder, began, time.time())


def tracked(disk: Path, data: str, server: Server, seconds: float) -> tuple[dict[str, list[float]], str, Path]:
    """Train through all faults; return step times of each, what was said, and the run folder."""
    spans, folder = {}, disk / "run"
    with FaultyLine(int(server.url.rsplit(":", 1)[1])) as line:
        options = [f"tracking.uri={line.url}", "tracking.flush_seconds=60"]
        with training(folder, data, *options) as process:
            began = time.time()
            while not (folder / "mlflow.json").is_file():
                time.sleep(0.1)
            spans["while the sender starts"] = (began, time.time())
            for fault in ("none", "slow", "hung", "dead", "unauthorised", "failing", "this disk full", "none again"):
                line.fault = fault.split()[0]
                filler = disk / "filler"
                if fault == "this disk full":
                    line.fault = "none"
                    with contextlib.suppress(OSError):
                        filler.write_bytes(b"\0" * (1 << 26))
                began = time.time()
                time.sleep(seconds)
                spans[fault] = (began, time.time())
                filler.unlink(missing_ok=True)
        _, said = process.communicate(timeout=180)
    return {fault: step_times(folder, *span) for fault, span in spans.items()}, said, folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        root.chmod(0o755)
        with (
            postgres(root / "postgres") as database,
            mlflow_server(root, database) as url,
            small_disk(root / "disk") as disk,
        ):
            server = Server(url, database)
            before = untracked(root / "before", options.data, options.seconds)
            times, said, folder = tracked(disk, options.data, server, options.seconds)
            after = untracked(root / "after", options.data, options.seconds)
            rows = {"without MLflow, before": before, **times, "without MLflow, after": after}
            base = statistics.median([*before, *after])
            print("| the server is | ms a step, median (quartiles) | of the step without MLflow | points |")
            print("|---|---|---|---|")
            for name, values in rows.items():
                low, middle, high = statistics.quantiles(values, n=4)
                print(f"| {name} | {middle:.1f} ({low:.1f} to {high:.1f}) | {middle / base:.3f} | {len(values)} |")
            sync = [str(Path(sys.executable).parent / "bigtrain"), "sync", str(folder), "--uri", url]
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
