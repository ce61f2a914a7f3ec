"""Tracking on a real server with a real database: runs at once, restarts, every fault on the way there, and the pages.

MLflow's own pages are seen in a real browser: what was logged is what people see. Screenshots: `build/screenshots`.
"""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from bigtrain.core.state import Progress
from bigtrain.tracking import sender
from bigtrain.tracking.sent import SentState
from bigtrain.tracking.spool import read_metrics, read_records
from bigtrain.tracking.tracker import Tracker, TrackingConfig
from tests.conftest import ROOT
from tests.integration.mlflow_server import FaultyLine, Server, installed
from tests.pairs import write_config, write_pairs

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif(not installed(), reason="Debian's postgresql is not installed"),
]
in_a_browser = pytest.mark.skipif(not shutil.which("chromedriver"), reason="Debian's chromium-driver is not installed")
SCREENSHOTS = ROOT / "build" / "screenshots"
PLOTS = """return [...document.querySelectorAll('.js-plotly-plot')].map(
    plot => (plot.data || []).map(line => line.name || ''))"""
PICTURES = "return [...document.images].filter(image => image.naturalWidth > 300).length"


def stored(server: Server, run_id: str) -> list[tuple[object, ...]]:
    """Return a run's points as the database has them."""
    rows = server.query("select key, step, value from metrics where run_uuid = %s", run_id)
    return sorted((key, step / 1000, value) for key, step, value in rows if not str(key).startswith("system/"))


def spooled(folder: Path) -> list[tuple[object, ...]]:
    return sorted((name, *point) for name, points in read_metrics(folder).items() for point in points)


def tags_of(server: Server, run_id: str) -> dict[str, str]:
    return {
        str(key): str(value) for key, value in server.query("select key, value from tags where run_uuid=%s", run_id)
    }


def run_id_of(folder: Path) -> str:
    return str(json.loads((folder / "mlflow.json").read_text())["run_id"])


def test_several_runs_at_once_have_every_point_once(server: Server, seeds: list[Path]) -> None:
    for folder in seeds:
        assert stored(server, run_id_of(folder)) == spooled(folder)
    rows = server.query("select name, status from runs where lifecycle_stage = 'active'")
    assert sorted(rows) == [(name, "FINISHED") for name in ("hard cases", "seed0", "seed1", "seed2")]
    (names,) = server.query("select name from experiments where experiment_id > 0")
    assert names == ("fashion-mnist-10k",)  # after the dataset


def test_a_killed_run_goes_on_in_the_same_place(server: Server, seeds: list[Path]) -> None:
    tags = tags_of(server, run_id_of(seeds[-1]))
    assert tags["bigtrain.attempt"] == "2"
    parent = server.query("select run_uuid from runs where name = 'hard cases' and lifecycle_stage = 'active'")
    assert [(tags["mlflow.parentRunId"],)] == parent
    expected = {"git.commit", "git.dirty", "host", "world_size", "strategy", "dataset.digest", "checkpoint.sha256"}
    assert expected <= tags.keys()
    assert tags["slurm.job_id"] == "4711"
    assert tags["strategy"] == "ddp"
    saved = Path(tags["checkpoint.path"])
    assert tags["checkpoint.sha256"] == json.loads((saved / "checkpoint.json").read_text())["sha256"]


def test_what_people_look_for_is_there(server: Server, seeds: list[Path]) -> None:
    for folder in seeds:
        run_id = run_id_of(folder)
        (place,) = server.query("select artifact_uri from runs where run_uuid = %s", run_id)
        artifacts = server.artifacts.joinpath(*str(place[0]).removeprefix("mlflow-artifacts:/").split("/"))
        found = {str(path.relative_to(artifacts)) for path in artifacts.rglob("*") if path.is_file()}
        assert {"config.yaml", "environment.json", "curves.png", "logs/rank0.log"} <= found
        assert "snapshots/final/generator.safetensors" in found
        assert "checkpoints/kimg000000.320.json" in found
        pictures = [name for name in found if name.endswith(".png") and name.startswith("images/samples~fakes+")]
        assert len(pictures) == 3  # before training, in the middle, in the end
        system = server.query("select distinct key from metrics where run_uuid=%s and key like 'system/%%'", run_id)
        assert ("system/node0/cpu_utilization_percentage",) in system
    assert "resuming from" in (seeds[-1] / "logs" / "rank0.log").read_text()


class Run:
    """A run that reports, without a training: its spool, and a process that its sender follows.

    Args:
        folder: the run folder.
        uri: of the server.
    """

    def __init__(self, folder: Path, uri: str) -> None:
        folder.mkdir()
        self.folder, self.uri, self.progress = folder, uri, Progress(100_000, 100)
        config = TrackingConfig(uri=uri, experiment="faults", system_seconds=0, mlflow=False)
        self._tracker = Tracker(config, folder, active=True)
        dataset = {"name": "none", "digest": "0" * 64, "folder": "/", "shape": [1, 8, 8], "profile": {}}
        self._tracker.start(self.progress, params={"lr": 1.0}, tags={"host": "here"}, dataset=dataset)
        self.trained = subprocess.Popen(["sleep", "600"])
        self.sent: list[bool] = []
        self._thread = threading.Thread(target=self._send)
        self._thread.start()

    def _send(self) -> None:
        self.sent.append(sender.send_run(self.folder, follow=self.trained.pid))

    def report(self, steps: int) -> None:
        for _ in range(steps):
            self.progress.advance()
            self._tracker.log({"loss/d_main": self.progress.kimg, "loss/g_main": 1.0}, self.progress)

    def picture(self) -> None:
        self._tracker.log_image("preview", np.zeros((8, 8, 3), np.uint8), self.progress)

    def end(self) -> bool:
        """End as a training does, and return whether all was sent."""
        self._tracker.finish("FINISHED", self.progress)
        self._thread.join(60)
        assert not self._thread.is_alive()
        self.trained.kill()
        self.trained.wait()
        return self.sent[0]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a sender try again soon, and wait for answers a second only."""
    monkeypatch.setattr(sender, "_RETRY_SECONDS", 0.3)
    monkeypatch.setattr(sender, "_POLL_SECONDS", 0.1)
    monkeypatch.setattr(sender, "_LONGEST_TIMEOUT", 4)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("fault", ["slow", "hung", "dead", "failing"])
def test_nothing_is_lost_to_a_fault(
    server: Server, tmp_path: Path, fault: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with FaultyLine(int(server.url.rsplit(":", 1)[1]), delay=1.5) as line:
        run = Run(tmp_path / "run", line.url)
        run.report(3)
        deadline = time.monotonic() + 60
        while not (run.folder / "mlflow.json").is_file() and time.monotonic() < deadline:
            time.sleep(0.1)
        line.fault = fault
        run.report(5)
        time.sleep(3)
        line.fault = "none"
        run.report(2)
        deadline = time.monotonic() + 60
        while len(stored(server, run_id_of(run.folder))) < 20 and time.monotonic() < deadline:
            time.sleep(0.1)
        assert run.end()
        assert stored(server, run_id_of(run.folder)) == spooled(run.folder)
        assert fault == "slow" or line.connections > 1
    assert capfd.readouterr().err.count("does not answer") <= 1


@pytest.mark.usefixtures("impatient")
def test_metrics_do_not_wait_for_a_store_of_artifacts(server: Server, tmp_path: Path) -> None:
    with FaultyLine(int(server.url.rsplit(":", 1)[1])) as line:
        line.fault = "storeless"
        run = Run(tmp_path / "run", line.url)
        run.report(1)
        run.picture()
        run.report(3)
        deadline = time.monotonic() + 60
        while not (run.folder / "mlflow.json").is_file() and time.monotonic() < deadline:
            time.sleep(0.1)
        while stored(server, run_id_of(run.folder)) != spooled(run.folder) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert stored(server, run_id_of(run.folder)) == spooled(run.folder)
        while not line.refused_artifacts and time.monotonic() < deadline:
            time.sleep(0.1)
        assert line.refused_artifacts
        assert not list(server.artifacts.rglob(f"{run_id_of(run.folder)}/**/*.png"))
        line.fault = "none"
        assert run.end()
        assert len(list(server.artifacts.rglob(f"{run_id_of(run.folder)}/**/*.png"))) == 1
        assert stored(server, run_id_of(run.folder)) == spooled(run.folder)


@pytest.mark.usefixtures("impatient")
def test_a_missing_right_is_told_once_and_the_rest_is_sent_later(
    server: Server, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with FaultyLine(int(server.url.rsplit(":", 1)[1]), delay=1.5) as line:
        run = Run(tmp_path / "run", line.url)
        deadline = time.monotonic() + 60
        while not (run.folder / "mlflow.json").is_file() and time.monotonic() < deadline:
            time.sleep(0.1)
        line.fault = "unauthorised"
        run.report(5)
        time.sleep(1)
        assert not run.end()
    assert capfd.readouterr().err.count("the user may not write there") == 1
    assert sender.send_run(run.folder, uri=server.url)
    assert stored(server, run_id_of(run.folder)) == spooled(run.folder)


@pytest.mark.usefixtures("impatient")
def test_what_a_dead_server_missed_is_sent_later_and_once(
    server: Server, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = Run(tmp_path / "run", "http://127.0.0.1:9")
    run.report(1500)
    time.sleep(3)
    assert not run.end()
    assert capfd.readouterr().err.count("does not answer") == 1
    ids = set()
    for _ in range(2):
        assert sender.send_run(run.folder, uri=server.url)
        ids.add(run_id_of(run.folder))
        (run.folder / "mlflow.json").unlink()  # even who has forgotten everything finds the run
    (run_id,) = ids
    assert stored(server, run_id) == spooled(run.folder)
    assert len(spooled(run.folder)) == 3000


@pytest.mark.usefixtures("impatient")
def test_a_wrong_password_is_said_once_and_not_shown(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    Run(tmp_path / "run", "http://127.0.0.1:9").end()
    capfd.readouterr()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.database.replace("right", "secret-but-wrong"))
    assert not sender.send_run(tmp_path / "run", uri=os.environ["MLFLOW_TRACKING_URI"])
    error = capfd.readouterr().err
    assert error.count("does not answer") == 1
    assert "password authentication failed" in error
    assert "secret" not in error
    with pytest.raises(ValueError, match="contains a password or a key"):
        TrackingConfig(uri=server.database)


def test_a_full_disk_does_not_stop_the_reports(tmp_path: Path) -> None:
    code = (
        "import resource, signal, sys, pathlib\n"
        "from bigtrain.tracking.spool import Spool\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "spool = Spool(pathlib.Path(sys.argv[1]))\n"
        "for step in range(60):\n"
        "    limit = 2000 if 20 <= step < 40 else -1  # bytes that a file may have\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, -1))\n"
        "    spool.append('metrics', step, metrics={'loss/d': 1.0})\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    assert [record["samples_seen"] for record, _ in read_records(tmp_path / "metrics.jsonl")] == list(range(60))


def look(browser: webdriver.Chrome, url: str, name: str, words: list[str], *, height: int) -> None:
    """Open a page, wait until all words are on it, and keep a picture."""
    browser.set_window_size(1500, height)
    browser.get("about:blank")  # another address after the # alone would not load the page anew
    browser.get(url)
    for word in words:
        WebDriverWait(browser, 120).until(
            lambda driver, word=word: word in driver.find_element(By.TAG_NAME, "body").text, f"{name}: no {word!r}"
        )
    keep(browser, name)


def keep(browser: webdriver.Chrome, name: str) -> None:
    """Keep a picture of the page as it is."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    browser.save_screenshot(str(SCREENSHOTS / f"mlflow-{name}.png"))


def only(browser: webdriver.Chrome, charts: str) -> None:
    """Let a page show few charts: a browser without a GPU needs seconds for each."""
    field = WebDriverWait(browser, 120).until(
        lambda driver: driver.find_element(By.CSS_SELECTOR, "input[placeholder='Search metric charts']")
    )
    field.send_keys(Keys.CONTROL, "a")
    field.send_keys(charts)


def wait(browser: webdriver.Chrome, condition: Callable[[], bool], missing: str) -> None:
    WebDriverWait(browser, 90, ignored_exceptions=(WebDriverException,)).until(lambda _: condition(), missing)


@pytest.fixture
def pages(server: Server, seeds: list[Path], browser: webdriver.Chrome) -> str:
    """Open MLflow as somebody who has closed its assistant; return the address of the experiment."""
    browser.get(server.url)
    browser.execute_script("localStorage.setItem('mlflow.assistant.panelOpen_v1', 'false')")
    browser.execute_script("localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true')")
    return f"{server.url}/#/experiments/1/runs"


@pytest.mark.slow
@in_a_browser
def test_the_run_page_shows_charts_and_pictures(pages: str, seeds: list[Path], browser: webdriver.Chrome) -> None:
    run = f"{pages}/{json.loads((seeds[0] / 'mlflow.json').read_text())['run_id']}"
    look(browser, f"{run}/model-metrics", "charts", ["Model metrics"], height=3600)
    only(browser, "eval/|loss/|logits/")
    wait(browser, lambda: len(browser.execute_script(PLOTS)) >= 6, "no charts")
    wait(browser, lambda: browser.execute_script(PICTURES) >= 5, "no pictures")
    keep(browser, "charts")
    look(browser, f"{run}/artifacts", "artifacts", ["checkpoints", "config.yaml", "logs", "snapshots"], height=1000)
    look(browser, run, "run", ["synthesis: biggan on", "dataset.digest", "Training"], height=1500)
    # MLflow puts the pictures here too, above; and it draws what is in view only.
    look(browser, f"{run}/system-metrics", "system", ["System metrics"], height=4800)
    only(browser, "cpu|memory")
    wait(browser, lambda: len(browser.execute_script(PLOTS)) >= 2, "no charts of the nodes")
    keep(browser, "system")
    page = SentState(seeds[0]).page()
    assert page is not None
    look(browser, page, "run-of-status", ["Models", "synthesis: biggan on"], height=1500)
    assert "Prompts" not in browser.find_element(By.TAG_NAME, "body").text  # it is opened among trained models


@in_a_browser
def test_the_comparison_page_overlays_runs(pages: str, seeds: list[Path], browser: webdriver.Chrome) -> None:
    look(browser, f"{pages}?compareRunsMode=CHART", "comparison", ["seed0", "seed1"], height=2400)
    only(browser, "eval/|loss/")

    def overlaid() -> bool:
        charts = [" ".join(names) for names in browser.execute_script(PLOTS)]
        return any("seed0" in names and "seed1" in names for names in charts)

    wait(browser, overlaid, "no chart shows both runs")
    keep(browser, "comparison")


@pytest.mark.slow
@in_a_browser
def test_a_translation_shows_input_output_and_target(server: Server, browser: webdriver.Chrome, tmp_path: Path) -> None:
    run_dir = tmp_path / "translation"
    tracking = {"uri": server.url, "system_seconds": 0}
    config = write_config(tmp_path / "pix2pix.yaml", write_pairs(tmp_path / "pairs"), run_dir, tracking=tracking)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "bigtrain.train", str(config)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert stored(server, run_id_of(run_dir)) == spooled(run_dir)
    assert "eval/psnr" in {name for name, *_ in spooled(run_dir)}
    ((experiment,),) = server.query("select experiment_id from runs where run_uuid = %s", run_id_of(run_dir))
    page = f"{server.url}/#/experiments/{experiment}/runs/{run_id_of(run_dir)}/model-metrics"
    look(browser, page, "translation", ["Model metrics"], height=2400)
    only(browser, "eval/|target")
    wait(browser, lambda: browser.execute_script(PICTURES) >= 1, "no pictures")
    keep(browser, "translation")
