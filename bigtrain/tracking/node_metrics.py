"""Look at a node now and then: `python -m bigtrain.tracking.node_metrics RUN --node N --follow PID --seconds S`.

One such process runs on each node, beside the training, and writes a spool of its own. The names are those of MLflow's
system metrics, so that MLflow shows them on the page it has for them.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import psutil

from bigtrain.tracking.sent import is_alive
from bigtrain.tracking.spool import append_whole

_GPU_FIELDS = {
    "utilization.gpu": "utilization_percentage",
    "memory.used": "memory_usage_megabytes",
    "power.draw": "power_usage_watts",
    "temperature.gpu": "temperature_celsius",
}
_POLL_SECONDS = 1.0


class Node:
    """What can be seen of this machine.

    Args:
        folder: on the disk that is looked at.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._network, self._at = _network_bytes(), time.monotonic()
        psutil.cpu_percent()  # the first call begins the measurement

    def look(self) -> dict[str, float]:
        """Return how busy it is, since the last look where that matters: percent, megabytes, MB/s, watts."""
        memory, disk = psutil.virtual_memory(), psutil.disk_usage(str(self._folder))
        before, self._network = self._network, _network_bytes()
        began, self._at = self._at, time.monotonic()
        received, sent = (
            (now - then) / 1e6 / (self._at - began) for now, then in zip(self._network, before, strict=True)
        )
        return {
            "cpu_utilization_percentage": psutil.cpu_percent(),
            "system_memory_usage_megabytes": memory.used / 1e6,
            "system_memory_usage_percentage": memory.percent,
            "disk_usage_percentage": disk.percent,
            "disk_available_megabytes": disk.free / 1e6,
            "network_receive_megabytes_per_s": received,
            "network_transmit_megabytes_per_s": sent,
            **_look_at_gpus(),
        }


def _network_bytes() -> tuple[int, int]:
    counters = psutil.net_io_counters()
    return (counters.bytes_recv, counters.bytes_sent) if counters else (0, 0)


def _look_at_gpus() -> dict[str, float]:
    """Ask NVIDIA's driver; without one, there is nothing to say."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return {}
    command = [program, f"--query-gpu={','.join(_GPU_FIELDS)}", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    return parse_gpus(answer)


def parse_gpus(answer: str) -> dict[str, float]:
    """Read what nvidia-smi prints, a line a GPU; what it does not know (`[N/A]`) is left out."""
    found = {}
    for gpu, line in enumerate(answer.strip().splitlines()):
        for name, text in zip(_GPU_FIELDS.values(), line.split(","), strict=True):
            try:
                found[f"gpu_{gpu}_{name}"] = float(text)
            except ValueError:
                continue
    return found


def watch(folder: Path, *, node: int, follow: int, seconds: float) -> None:
    """Write a record of metrics now and then, until a process has ended.

    Args:
        folder: the run folder.
        node: this machine's number among those of the run.
        follow: the process.
        seconds: between two looks.
    """
    spool = folder / "metrics" / f"node{node}.jsonl"
    spool.parent.mkdir(parents=True, exist_ok=True)
    count = _lines(spool)
    machine, due = Node(folder), time.monotonic() + seconds
    while is_alive(follow):
        time.sleep(min(_POLL_SECONDS, seconds))
        if time.monotonic() < due:
            continue
        due += seconds
        metrics = {f"system/node{node}/{name}": round(value, 3) for name, value in machine.look().items()}
        record = {"kind": "metrics", "samples_seen": count, "time_ms": int(time.time() * 1000), "metrics": metrics}
        try:
            append_whole(spool, (json.dumps(record) + "\n").encode())
        except OSError:
            continue  # a full disk: the next look may find room again
        count += 1


def _lines(spool: Path) -> int:
    if not spool.is_file():
        return 0
    with spool.open("rb") as file:
        return sum(line.endswith(b"\n") for line in file)


def main() -> None:
    """Run the watch."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--node", type=int, required=True)
    parser.add_argument("--follow", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    arguments = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(10)
    watch(arguments.folder, node=arguments.node, follow=arguments.follow, seconds=arguments.seconds)


if __name__ == "__main__":
    main()
