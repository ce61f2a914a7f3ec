"""MLflow's own pages in a real browser: what was logged is what people see. Screenshots: `build/screenshots`."""

import json
import shutil
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from tests.conftest import ROOT
from tests.integration.mlflow_server import Server, installed

pytestmark = [
    pytest.mark.timeout(400),
    pytest.mark.skipif(not shutil.which("chromedriver"), reason="Debian's chromium-driver is not installed"),
    pytest.mark.skipif(not installed(), reason="Debian's postgresql is not installed"),
]
SCREENSHOTS = ROOT / "build" / "screenshots"
PLOTS = "return [...document.querySelectorAll('.js-plotly-plot')].map(plot => plot.data.map(trace => trace.name || ''))"
PICTURES = "return [...document.images].filter(image => image.naturalWidth > 300).length"


def look(browser: webdriver.Chrome, url: str, name: str, words: list[str], *, height: int) -> None:
    """Open a page, wait until all words are on it, and keep a picture."""
    browser.set_window_size(1500, height)
    browser.get("about:blank")  # another address after the # alone would not load the page anew
    browser.get(url)
    for word in words:
        WebDriverWait(browser, 120).until(
            lambda driver, word=word: word in driver.find_element(By.TAG_NAME, "body").text, f"{name}: no {word!r}"
        )
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    browser.save_screenshot(str(SCREENSHOTS / f"mlflow-{name}.png"))


@pytest.fixture
def pages(server: Server, seeds: list[Path], browser: webdriver.Chrome) -> str:
    """Open MLflow as somebody who has closed its assistant; return the address of the experiment."""
    browser.get(server.url)
    browser.execute_script("localStorage.setItem('mlflow.assistant.panelOpen_v1', 'false')")
    browser.execute_script("localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true')")
    return f"{server.url}/#/experiments/1/runs"


def test_the_run_page_shows_charts_and_pictures(pages: str, seeds: list[Path], browser: webdriver.Chrome) -> None:
    run = f"{pages}/{json.loads((seeds[0] / 'mlflow.json').read_text())['run_id']}"
    words = ["samples/fakes", "samples/by_class", "samples/truncation", "samples/real_and_fake", "data/augmented"]
    look(browser, f"{run}/model-metrics", "charts", ["fid40_efflite0_bf16", "d_main", *words], height=9000)
    WebDriverWait(browser, 60).until(lambda driver: driver.execute_script(PICTURES) >= len(words), "no pictures")
    WebDriverWait(browser, 60).until(lambda driver: len(driver.execute_script(PLOTS)) > 30, "no charts")
    browser.save_screenshot(str(SCREENSHOTS / "mlflow-charts.png"))
    look(browser, f"{run}/system-metrics", "system", ["cpu_utilization_percentage"], height=2000)
    look(browser, f"{run}/artifacts", "artifacts", ["checkpoints", "config.yaml", "logs", "snapshots"], height=1000)
    look(browser, run, "run", ["biggan against biggan", "dataset.digest", "Training"], height=1700)


def test_the_comparison_page_overlays_runs(pages: str, seeds: list[Path], browser: webdriver.Chrome) -> None:
    look(
        browser, f"{pages}?compareRunsMode=CHART", "comparison", ["seed0", "seed1", "fid40_efflite0_bf16"], height=3000
    )

    def overlaid(driver: webdriver.Chrome) -> bool:
        charts = [" ".join(names) for names in driver.execute_script(PLOTS)]
        return sum("seed0" in names and "seed1" in names for names in charts) > 3

    WebDriverWait(browser, 60).until(overlaid, "no chart shows both runs")
    browser.save_screenshot(str(SCREENSHOTS / "mlflow-comparison.png"))
