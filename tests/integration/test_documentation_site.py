"""The documentation as a site: nothing is loaded from elsewhere, and the search works from files."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from tests.conftest import ROOT


@pytest.mark.slow
def test_the_site_works_from_files(tmp_path: Path, browser: webdriver.Chrome) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) > 100
    for page in pages:
        assert not re.search(r"<(script|img|link|iframe)[^>]+(src|href)=\"https?:", page.read_text()), page

    browser.get((tmp_path / "site" / "reference" / "config.html").as_uri())
    browser.execute_script("document.querySelector('label[for=__search]').click()")
    field = browser.find_element(By.CSS_SELECTOR, "input.md-search__input")
    wait = WebDriverWait(browser, 30)
    wait.until(lambda _: field.is_displayed())
    field.send_keys("gamma")
    wait.until(lambda _: browser.find_elements(By.CSS_SELECTOR, ".md-search-result__item"))
    assert "objectives" in browser.find_element(By.CSS_SELECTOR, ".md-search-result__list").get_attribute("innerHTML")
