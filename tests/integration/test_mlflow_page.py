"""MLflow's own page of a run, in a real browser: what was logged is what people see."""

import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from tests.conftest import ROOT

pytestmark = [
    pytest.mark.timeout(400),
    pytest.mark.skipif(not shutil.which("chromedriver"), reason="Debian's chromium-driver is not installed"),
]
OFFLINE = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --window-size=1400,9000"
)


@pytest.fixture
def run(fashion: Path, tmp_path: Path) -> Path:
    """A short tracked run."""
    folder = tmp_path / "runs" / "seen"
    command = [
        str(Path(sys.executable).parent / "bigtrain"),
        "train",
        str(ROOT / "tests" / "tiny.yaml"),
        "total_kimg=1.6",
    ]
    subprocess.run([*command, f"data.path={fashion}", f"run_dir={folder}"], check=True, capture_output=True)
    return folder


@pytest.fixture
def server(run: Path) -> Iterator[str]:
    """MLflow's server over the run's database."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    store = f"sqlite:///{run.parent / 'mlflow.db'}"
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--backend-store-uri",
        store,
        "--port",
        str(port),
        "--workers",
        "1",
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            for _ in range(120):
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).close()
                    break
                except OSError:
                    time.sleep(1)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[webdriver.Chrome]:
    """Chromium, without a window and without a past."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for argument in (*OFFLINE.split(), f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(argument)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    yield driver
    driver.quit()


def test_the_run_page_shows_scores_and_pictures(
    run: Path, server: str, browser: webdriver.Chrome, tmp_path: Path
) -> None:
    run_id = json.loads((run / "mlflow.json").read_text())["run_id"]
    pages = {"model-metrics": ["fid40_efflite0_bf16", "d_main", "fakes"], "artifacts": ["config.yaml", "curves.png"]}
    for page, words in pages.items():
        browser.get(f"{server}/#/experiments/1/runs/{run_id}/{page}")
        for word in words:
            WebDriverWait(browser, 120).until(
                lambda driver, word=word: word in driver.find_element(By.TAG_NAME, "body").text,
                f"{page}: no {word!r} on the page",
            )
        browser.save_screenshot(str(tmp_path / f"{page}.png"))
