"""What a job of 128 nodes, and fifty runs at once, ask of an MLflow server.

The server here is a stand-in that stores nothing: a real one would be the bottleneck on two cores. What real ones store
is tested in `tests/integration/test_tracking.py`.
"""

import json
import re
import subprocess
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from bigtrain.core.state import Progress
from bigtrain.tracking import sender
from bigtrain.tracking.spool import Spool
from bigtrain.tracking.tracker import Tracker, TrackingConfig

NODES, SENDERS, PICTURES, SECONDS = 128, 50, 100_000, 20.0


class StandIn(ThreadingHTTPServer):
    """Answers as MLflow does, and counts.

    Attributes:
        requests: by method and path.
        metrics: points that came.
    """

    daemon_threads = True
    request_queue_size = 256

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests, self.metrics, self.lock = Counter[str](), 0, threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: StandIn

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = re.sub(r"\?.*", "", self.path)
        what = path.removeprefix("/api/2.0/").removeprefix("mlflow/")
        sent = json.loads(body) if body.startswith(b"{") else {}
        with self.server.lock:
            self.server.requests[re.sub(r"artifacts/artifacts/.*", "artifacts", what)] += 1
            self.server.metrics += len(sent.get("metrics", ()))
        run = {"info": {"run_id": uuid.uuid4().hex, "experiment_id": "1", "lifecycle_stage": "active"}, "data": {}}
        run["info"]["artifact_uri"] = f"mlflow-artifacts:/1/{run['info']['run_id']}/artifacts"
        experiment = {"experiment_id": "1", "name": "rate", "lifecycle_stage": "active"}
        answers = {"experiments/get-by-name": {"experiment": experiment}, "runs/create": {"run": run}}
        answers |= {"runs/get": {"run": run}, "runs/search": {"runs": []}}
        content = json.dumps(answers.get(what, {})).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def do_PATCH(self) -> None:
        self._answer()


@pytest.fixture
def stand_in() -> Iterator[StandIn]:
    with StandIn() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def run_folder(folder: Path, uri: str) -> tuple[Path, Tracker, Progress]:
    """Return a run that has started to report."""
    folder.mkdir()
    tracker = Tracker(TrackingConfig(uri=uri, experiment="rate", mlflow=False, system_seconds=0), folder, active=True)
    progress = Progress(100_000, 100)
    dataset = {"name": "none", "digest": "0" * 64, "folder": "/", "shape": [1, 8, 8], "profile": {}}
    tracker.start(progress, params={"lr": 1.0}, tags={}, dataset=dataset)
    return folder, tracker, progress


@pytest.mark.slow
def test_the_nodes_of_a_job_ask_less_than_twice_a_second(stand_in: StandIn, tmp_path: Path) -> None:
    folder, tracker, progress = run_folder(tmp_path / "run", stand_in.url)
    (folder / "metrics").mkdir()
    nodes = [Spool(folder, f"metrics/node{node}.jsonl") for node in range(NODES)]
    points = {f"system/node/{name}": 1.0 for name in range(20)}
    with subprocess.Popen(["sleep", "600"]) as trained:
        sending = threading.Thread(target=sender.send_run, args=(folder,), kwargs={"follow": trained.pid})
        sending.start()
        while not stand_in.requests["runs/log-batch"]:
            time.sleep(0.1)
        before, start, reports = stand_in.requests.total(), time.monotonic(), 0
        while (now := time.monotonic() - start) < SECONDS:
            while reports < NODES * now / 10:  # each node reports every ten seconds
                nodes[reports % NODES].append("metrics", reports, metrics=points)
                reports += 1
            progress.advance()
            tracker.log({"loss/d_main": 1.0}, progress)
            time.sleep(0.1)
        requests = stand_in.requests.total() - before
        tracker.finish("FINISHED", progress)
        sending.join(60)
        trained.kill()
    print(f"{requests / SECONDS:.2f} requests a second for {reports / SECONDS:.1f} reports")
    assert requests <= 2 * SECONDS
    assert stand_in.metrics >= 20 * reports


@pytest.mark.slow
def test_fifty_senders_and_many_pictures(stand_in: StandIn, tmp_path: Path) -> None:
    runs = []
    for number in range(SENDERS):
        folder, tracker, progress = run_folder(tmp_path / f"run{number}", stand_in.url)
        for _ in range(20):
            progress.advance()
            tracker.log({"loss/d_main": 1.0}, progress)
        tracker.finish("FINISHED", progress)
        runs.append(folder)
    with ThreadPoolExecutor(SENDERS) as threads:
        assert all(threads.map(lambda folder: sender.send_run(folder, uri=stand_in.url), runs))
    assert stand_in.metrics == 20 * SENDERS
    assert stand_in.requests.total() <= 20 * SENDERS
    print(f"{stand_in.requests.total() / SENDERS:.1f} requests a run")

    spool = Spool(runs[0])
    (runs[0] / "images").mkdir(exist_ok=True)
    for number in range(PICTURES):  # all but the last are gone: only the spool is long
        spool.append("image", 1000 * number, key="preview", file=f"images/preview-{number}.png")
    start = time.process_time()
    assert sender.send_run(runs[0], uri=stand_in.url)
    print(f"{PICTURES} pictures: {time.process_time() - start:.1f} s of a processor")
    assert time.process_time() - start < 60
