"""Generators in MLflow: registered, used where there is no bigtrain, served over HTTP, seen in the browser."""

import base64
import contextlib
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from bigtrain.core.quantise import to_uint8
from bigtrain.core.state import Progress
from bigtrain.generate.snapshot import load_snapshot
from bigtrain.models import ImageSpec
from bigtrain.models.cgan import CGANGeneratorConfig
from bigtrain.tracking.tracker import Tracker, TrackingConfig
from data_pipelines.files import write_json
from tests.conftest import ROOT
from tests.integration.clean_environment import clean_environment
from tests.snapshots import save_generator

pytestmark = pytest.mark.timeout(500)

SCREENSHOTS = ROOT / "build" / "screenshots"
EXPERIMENT, DATASET = "try", "tiny"
MODEL = f"{EXPERIMENT}.{DATASET}"
FIDS = {"first": 30.0, "better": 12.5, "worse": 20.0}
SCRIPT = """
import importlib.util, json, sys
import mlflow, numpy, pandas
assert importlib.util.find_spec("bigtrain") is None and importlib.util.find_spec("typer") is None
model = mlflow.pyfunc.load_model(sys.argv[1])
table = pandas.DataFrame({"seed": [5, 6, 7], "class": [2, 0, 1], "truncation": [1.0, 1.0, 0.5]})
numpy.save(sys.argv[2], model.predict(table))
latents = pandas.DataFrame({"z": [[0.25] * 8], "class": [1]})
numpy.save(sys.argv[3], model.predict(latents))
"""


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextlib.contextmanager
def serving(command: list[str], url: str, **environment: str) -> Iterator[str]:
    """Run a server until it is not needed any more."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, env={**os.environ, **environment}, start_new_session=True, **quiet)  # type: ignore[call-overload]
    try:
        for _ in range(240):
            assert process.poll() is None, command
            try:
                urllib.request.urlopen(url, timeout=2).close()
                break
            except OSError:
                time.sleep(0.5)
        yield url
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):  # MLflow's server is in no hurry to end
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(3)


def post(url: str, document: object) -> object:
    request = urllib.request.Request(url, json.dumps(document).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def make_run(folder: Path, fid: float) -> None:
    """Leave a run folder as a run leaves it: a spool, and a snapshot of a generator of its own."""
    torch.manual_seed(round(fid))
    config = CGANGeneratorConfig(kind="cgan", z_dim=8)
    generator = config.build(ImageSpec(8, 3, 3)).eval()
    place = folder / "snapshots" / "kimg000000.100"
    facts = {"samples_seen": 100, "dataset": DATASET}
    save_generator(place, generator, config, class_names=["cat", "dog", "cow"], facts=facts)
    write_json(folder / "environment.json", {"git_commit": "1234", "command": "bigtrain train x.yaml"})
    progress = Progress(total=100, batch=100)
    tracker = Tracker(TrackingConfig(mlflow=False, experiment=EXPERIMENT), folder, active=True)
    dataset = {"name": DATASET, "digest": "abc", "folder": "nowhere", "shape": [3, 8, 8], "profile": {"licence": "CC0"}}
    tracker.start(progress, params={}, tags={"dataset.digest": "abc"}, dataset=dataset)
    progress.advance()
    tracker.log({"eval/fid40_efflite0": fid}, progress)
    tracker.log_model(place, progress)
    tracker.finish("FINISHED", progress)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("runs")
    for name, fid in FIDS.items():
        (root / name).mkdir()
        make_run(root / name, fid)
    return {name: root / name for name in FIDS}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where MLflow's server keeps what it gets."""
    return tmp_path_factory.mktemp("mlflow")


@pytest.fixture(scope="module")
def registry(runs: dict[str, Path], root: Path) -> Iterator[str]:
    """MLflow's server, to which the runs were sent, the first one twice."""
    url = f"http://127.0.0.1:{free_port()}"
    store = ["--backend-store-uri", f"sqlite:///{root / 'm.db'}", "--artifacts-destination", str(root / "artifacts")]
    command = [sys.executable, "-m", "mlflow", "server", *store, "--port", url.rpartition(":")[2], "--workers", "1"]
    script = (
        "import sys; from pathlib import Path; from bigtrain.tracking.sender import send_run\n"
        "for run in sys.argv[2:]: assert send_run(Path(run), uri=sys.argv[1])"
    )
    with serving(command, f"{url}/health"):
        subprocess.run([sys.executable, "-c", script, url, *map(str, runs.values())], check=True)
        (runs["first"] / "mlflow.json").unlink()
        subprocess.run([sys.executable, "-c", script, url, str(runs["first"])], check=True)
        yield url


@pytest.fixture(scope="module")
def clean(registry: str, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python with what the models ask for, and without bigtrain."""
    asked = {file.read_text() for file in root.rglob("requirements.txt")}
    assert len(asked) == 1
    return clean_environment(tmp_path_factory.mktemp("clean"), asked.pop().split())


def expected(run: Path) -> np.ndarray:
    snapshot = load_snapshot(run / "snapshots" / "kimg000000.100")
    whole, half = snapshot.sample([5, 6], [2, 0]), snapshot.sample([7], [1], truncation=0.5)
    return to_uint8(torch.cat([whole, half])).permute(0, 2, 3, 1).numpy()


def test_the_champion_is_the_best_and_every_snapshot_is_there_once(registry: str) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(registry)
    versions = client.search_model_versions(f"name = '{MODEL}'")
    assert sorted(version.tags["run"] for version in versions) == sorted(FIDS)
    champion = client.get_model_version_by_alias(MODEL, "champion")
    assert champion.tags["run"] == "better"
    assert champion.tags["score.value"] == "12.5"
    for told in ("| fid40_efflite0 | 12.5 |", "CC0", "Intended use", "Limits", "cat, dog, cow"):
        assert told in champion.description


def test_it_is_used_where_there_is_no_bigtrain(
    registry: str, clean: Path, runs: dict[str, Path], tmp_path: Path
) -> None:
    files = [str(tmp_path / name) for name in ("seeds.npy", "latents.npy")]
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "MLFLOW_TRACKING_URI": registry}
    command = [str(clean), "-c", SCRIPT, f"models:/{MODEL}@champion", *files]
    subprocess.run(command, check=True, env=environment, cwd=tmp_path)
    images = np.load(files[0])
    assert images.dtype == np.uint8
    assert np.abs(images.astype(int) - expected(runs["better"])).max() <= 1
    assert np.load(files[1]).shape == (1, 8, 8, 3)


@pytest.mark.slow
def test_it_answers_over_http_with_images(registry: str, clean: Path, runs: dict[str, Path], tmp_path: Path) -> None:
    port = str(free_port())
    command = [str(clean), "-m", "mlflow", "models", "serve", "-m", f"models:/{MODEL}@champion", "--port", port]
    here = {"MLFLOW_TRACKING_URI": registry, "PYTHONPATH": "", "PATH": f"{clean.parent}:{os.environ['PATH']}"}
    table = {"columns": ["seed", "class", "truncation"], "data": [[5, 2, 1.0], [6, 0, 1.0], [7, 1, 0.5]]}
    with serving([*command, "--env-manager", "local"], f"http://127.0.0.1:{port}/ping", **here):
        url = f"http://127.0.0.1:{port}/invocations"
        pixels = post(url, {"dataframe_split": table})
        files = post(url, {"dataframe_split": table, "params": {"format": "png"}})
    images = np.array(pixels["predictions"])  # type: ignore[index]
    assert np.abs(images - expected(runs["better"])).max() <= 1
    for image, text in zip(images, files["predictions"], strict=True):  # type: ignore[index]
        with Image.open(io.BytesIO(base64.b64decode(text))) as picture:
            np.testing.assert_array_equal(np.asarray(picture), image)


@pytest.mark.skipif(not shutil.which("chromedriver"), reason="Debian's chromium-driver is not installed")
def test_the_registry_shows_the_alias(registry: str, browser: webdriver.Chrome) -> None:
    browser.set_window_size(1400, 1000)
    pages = {"registry": (f"models/{MODEL}", ["champion", "Version 3"])}
    pages["card"] = (f"models/{MODEL}/versions/2", ["champion", "Intended use"])
    for name, (page, words) in pages.items():
        browser.get("about:blank")
        browser.get(f"{registry}/#/{page}")
        for word in words:
            WebDriverWait(browser, 120).until(
                lambda driver, word=word: word in driver.find_element(By.TAG_NAME, "body").text, f"no {word!r}"
            )
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        browser.save_screenshot(str(SCREENSHOTS / f"mlflow-{name}.png"))
