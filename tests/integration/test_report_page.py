"""The report in a real browser: it draws, fits, complains of nothing, and asks for nothing from anywhere."""

import shutil
from pathlib import Path

import pytest
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from bigtrain.report.page import write_page
from bigtrain.report.runs import read_runs
from tests.conftest import ROOT
from tests.run_folders import leave_run

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(not shutil.which("chromedriver"), reason="Debian's chromium-driver is not installed"),
]
SCREENSHOTS = ROOT / "build" / "screenshots"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    runs = [leave_run(root / "one", recordings=True), leave_run(root / "two", lr=0.5, fids=(70.0, 90.0))]
    write_page(read_runs(runs), root / "report.html", price=2.0)
    return root / "report.html"


@pytest.mark.parametrize("width", [1280, 390])
def test_it_draws_and_fits(page: Path, browser: webdriver.Chrome, width: int) -> None:
    view = {"width": width, "height": 6000, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", view)
    browser.get_log("browser")  # what other pages have said
    browser.get(page.as_uri())
    visible = len(browser.find_elements(By.CSS_SELECTOR, "details[open] .chart"))
    assert visible == 5
    WebDriverWait(browser, 60).until(
        lambda driver: len(driver.find_elements(By.CSS_SELECTOR, ".chart .scatterlayer .trace")) >= 2 * visible
    )
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.execute_script("return document.querySelector('.pictures img').naturalWidth") == 64
    assert [entry for entry in browser.get_log("browser") if entry["level"] != "DEBUG"] == []
    asked = browser.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert [name for name in asked if not name.startswith(("data:", "blob:"))] == []
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    browser.save_screenshot(str(SCREENSHOTS / f"report-{width}.png"))
    with Image.open(SCREENSHOTS / f"report-{width}.png") as shot:
        assert shot.width == width
        assert len(shot.convert("RGB").getcolors(1 << 24) or []) > 200  # a blank page has a handful
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_sounds_and_films_are_played(page: Path, browser: webdriver.Chrome) -> None:
    browser.get_log("browser")
    browser.get(page.as_uri())
    for key, tag in (("heard", "audio"), ("moving", "video"), ("fakes", "img")):
        browser.execute_script(f"document.querySelector('[data-key=\"samples/{key}\"]').click()")
        shown = "[...document.querySelectorAll('.pictures :is(img, audio, video)')].filter(place => place.offsetParent)"
        plays = (
            f"const [first] = {shown}; return first.localName === '{tag}' && (first.naturalWidth || first.duration) > 1"
        )
        WebDriverWait(browser, 30).until(lambda driver, plays=plays: driver.execute_script(plays))
        assert browser.execute_script(f"return {shown}.length") == (2 if key == "fakes" else 1)
    browser.execute_script("document.querySelector('[data-key=\"samples/moving\"]').click()")
    assert browser.execute_script("return document.querySelector('.pictures video').videoWidth") > 400
    assert [entry for entry in browser.get_log("browser") if entry["level"] != "DEBUG"] == []


def test_the_slider_and_the_switches_do_what_they_say(page: Path, browser: webdriver.Chrome) -> None:
    browser.get(page.as_uri())
    output, image = (browser.find_element(By.CSS_SELECTOR, query) for query in (".slide output", ".pictures img"))
    last = image.get_attribute("src")
    assert output.text == "2 kimg"
    browser.execute_script(
        "const s = document.querySelector('.slide input'); s.value = 0; s.dispatchEvent(new Event('input'))"
    )
    assert output.text == "1 kimg"
    assert image.get_attribute("src") != last
    chart = "document.querySelector('.chart')"
    browser.execute_script(f"{chart}.scrollIntoView()")  # charts are drawn when they come into sight
    WebDriverWait(browser, 60).until(lambda driver: driver.execute_script(f"return {chart}.layout !== undefined"))
    browser.execute_script("document.querySelector('.log input').click()")
    WebDriverWait(browser, 30).until(lambda driver: driver.execute_script(f"return {chart}.layout.yaxis.type") == "log")
