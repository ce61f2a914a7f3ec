"""An hour of trouble: `python -m benchmarks.soak CONFIG DATASET --minutes 60 --out RUN`.

Trains on two ranks from a shard server that refuses every twentieth request, reports to an MLflow server that stands
still for half a minute now and then, and kills a rank every ten minutes. Prints effective training time, and whether
memory, processes, handles or temporary files grow. Figures belong in docs/how-to/operations.md.
"""

import argparse
import contextlib
import json
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import psutil

from bigtrain.chaos.victims import find
from bigtrain.core.presence import read_heartbeat
from bigtrain.run.goodput import goodput_of, in_words
from bigtrain.tracking.events import read_events

_LOOK_SECONDS = 5.0
_STEP = 0.02
"""Memory that comes or goes at once, as a share of all."""
_REFUSED = 20
"""One in so many requests to the shard server is refused."""


class _Flaky(SimpleHTTPRequestHandler):
    """Serves files, and refuses some requests for them."""

    count = 0

    def do_GET(self) -> None:
        """Answer, or not."""
        _Flaky.count += 1
        if _Flaky.count % _REFUSED == 0:
            self.send_error(HTTPStatus.SERVICE_UNAVAILABLE)
            return
        super().do_GET()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        """Say nothing."""


@contextmanager
def shard_server(folder: Path) -> Iterator[str]:
    """Serve a dataset; yield its URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Flaky, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()


@contextmanager
def mlflow_server(folder: Path) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """Run an MLflow server; yield its URL and its process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["-m", "mlflow", "server", "--host=127.0.0.1", f"--port={port}", "--workers=1"]
    words += [f"--backend-store-uri=sqlite:///{folder}/mlflow.db", f"--artifacts-destination={folder}/artifacts"]
    with (folder / "mlflow.log").open("ab") as log:
        process = subprocess.Popen([sys.executable, *words], stdout=log, stderr=log, start_new_session=True)
    try:
        yield f"http://127.0.0.1:{port}", process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


class Look(NamedTuple):
    """What a run takes at a moment.

    Attributes:
        files: below its temporary folder.
        processes: role, process number, bytes of memory and handles of each.
    """

    files: int
    processes: Sequence[tuple[str, int, int, int]]


def look(command: int, temporary: Path) -> Look:
    """Return what a run takes now."""
    found = []
    for one in find(command):
        with contextlib.suppress(psutil.Error):  # it ends just now
            of = one.process
            found.append((one.role, of.pid, of.memory_info().rss, of.num_fds()))
    return Look(sum(1 for _ in temporary.rglob("*")), found)


def growth(looks: Sequence[Look]) -> dict[str, dict[str, float]]:
    """Return how memory and handles grew within the lives of processes of each role.

    Of memory, from the second quarter of a life on, its last third over its first one, without steps from one look to
    the next: what the first evaluation loads stays, and is told as a step. Of several lives, the median and the most.
    """
    lives: dict[tuple[str, int], list[tuple[int, int]]] = {}
    for one in looks:
        for role, pid, memory, handles in one.processes:
            lives.setdefault((role, pid), []).append((memory, handles))
    grown: dict[str, list[tuple[float, float, float]]] = {}
    for (role, _), values in lives.items():
        if len(values) >= 16:
            smooth, steps = _without_steps([memory for memory, _ in values[len(values) // 4 :]])
            handles = values[-2][1] - values[len(values) // 4][1]  # at the last look it may be ending
            third = len(smooth) // 3
            change = statistics.mean(smooth[-third:]) / statistics.mean(smooth[:third]) - 1
            grown.setdefault(role, []).append((change, steps, handles))
    return {
        role: {
            "lives": len(values),
            "memory, median": round(statistics.median(change for change, _, _ in values), 4),
            "memory, most": round(max(change for change, _, _ in values), 4),
            "memory in steps, most MiB": round(max(steps for _, steps, _ in values) / 2**20),
            "handles, most": max(handles for _, _, handles in values),
        }
        for role, values in grown.items()
    }


def _without_steps(values: Sequence[int]) -> tuple[list[float], int]:
    """Return a series without changes of more than `_STEP` from one value to the next, and the sum of these."""
    smooth, steps = [float(values[0])], 0
    for before, now in pairwise(values):
        step = abs(now - before) > _STEP * before
        steps += (now - before) * step
        smooth.append(smooth[-1] + (now - before) * (not step))
    return smooth, steps


def main() -> None:
    """Run the soak."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config")
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--kill-minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("words", nargs="*", help="overrides of the config")
    options = parser.parse_intermixed_args()
    choose, folder = random.Random(options.seed), options.out.absolute()
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix="soak-"))
    with shard_server(options.dataset) as data, mlflow_server(folder.parent) as (server, mlflow):
        words = ["train", options.config, f"run_dir={folder}", f"data.path={data}", "total_kimg=1e9", *options.words]
        words += [f"tracking.uri={server}", "--nproc", "2", "--max-restarts", "1000"]
        with folder.with_suffix(".log").open("ab") as log:
            command = [sys.executable, "-m", "bigtrain", *words]
            run = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "TMPDIR": str(temporary)})
        looks: list[Look] = []
        kills, ended = 0, time.monotonic() + 60 * options.minutes
        kill_at = time.monotonic() + 60 * options.kill_minutes
        while time.monotonic() < ended and run.poll() is None:
            time.sleep(_LOOK_SECONDS)
            looks.append(look(run.pid, temporary))
            stopped = time.time() % 420 < 30  # the tracking server stands still for half a minute in seven
            mlflow.send_signal(signal.SIGSTOP if stopped else signal.SIGCONT)
            ranks = [one.process for one in find(run.pid) if one.role == "rank"]
            if time.monotonic() > kill_at and len(ranks) == 2:
                choose.choice(ranks).kill()
                kills, kill_at = kills + 1, time.monotonic() + 60 * options.kill_minutes
        mlflow.send_signal(signal.SIGCONT)
        family = [one.process for one in find(run.pid)]
        run.send_signal(signal.SIGTERM)
        code = run.wait()
        _, left = psutil.wait_procs(family, timeout=120)
    goodput = goodput_of(read_events(folder), read_heartbeat(folder))
    about = {
        "exit code": code,
        "kills": kills,
        "goodput": goodput,
        "grew by": growth(looks),
        "most processes": max(len(one.processes) for one in looks),
        "processes left": len(left),
        "most temporary files": max(one.files for one in looks),
        "temporary files left": [str(path.relative_to(temporary)) for path in temporary.rglob("*")],
    }
    folder.with_suffix(".looks.json").write_text(json.dumps(looks))
    print(json.dumps(about, indent=1))
    print(in_words(goodput) if goodput else "no account")


if __name__ == "__main__":
    main()
