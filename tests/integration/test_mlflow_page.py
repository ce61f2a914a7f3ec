"""MLflow's own pages in a real browser: what was logged is what people see. Screenshots: `build/screenshots`."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from tests.conftest import ROOT
from tests.integration.mlflow_server import Server, installed

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif(not shutil.which("chromedriver"), reason="Debian's chromium-driver is not installed"),
    pytest.mark.skipif(not installed(), reason="Debian's postgresql is not installed"),
]
SCREENSHOTS = ROOT / "build" / "screenshots"
PLOTS = """return [...document.querySelectorAll('.js-plotly-plot')].map(
    plot => (plot.data || []).map(line => line.name || ''))"""
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
def test_the_run_page_shows_charts_and_pictures(pages: str, seeds: list[Path], browser: webdriver.Chrome) -> None:
    run = f"{pages}/{json.loads((seeds[0] / 'mlflow.json').read_text())['run_id']}"
    look(browser, f"{run}/model-metrics", "charts", ["Model metrics"], height=3600)
    only(browser, "eval/|loss/|logits/")
    wait(browser, lambda: len(browser.execute_script(PLOTS)) >= 6, "no charts")
    wait(browser, lambda: browser.execute_script(PICTURES) >= 5, "no pictures")
    keep(browser, "charts")
    look(browser, f"{run}/artifacts", "artifacts", ["checkpoints", "config.yaml", "logs", "snapshots"], height=1000)
    look(browser, run, "run", ["biggan against biggan", "dataset.digest", "Training"], height=1500)
    # MLflow puts the pictures here too, above; and it draws what is in view only.
    look(browser, f"{run}/system-metrics", "system", ["System metrics"], height=4800)
    only(browser, "cpu|memory")
    wait(browser, lambda: len(browser.execute_script(PLOTS)) >= 2, "no charts of the nodes")
    keep(browser, "system")


def test_the_comparison_page_overlays_runs(pages: str, seeds: list[Path], browser: webdriver.Chrome) -> None:
    look(browser, f"{pages}?compareRunsMode=CHART", "comparison", ["seed0", "seed1"], height=2400)
    only(browser, "eval/|loss/")

    def overlaid() -> bool:
        charts = [" ".join(names) for names in browser.execute_script(PLOTS)]
        return any("seed0" in names and "seed1" in names for names in charts)

    wait(browser, overlaid, "no chart shows both runs")
    keep(browser, "comparison")
