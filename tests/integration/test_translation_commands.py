"""The commands of a run, with a config of the task `translation`: plan, train, report, submit, tune."""

import csv
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from ruamel.yaml import YAML
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from bigtrain.cli import main
from bigtrain.sweep.event_log import SweepEventLog
from tests.conftest import ROOT
from tests.pairs import write_config, write_pairs

pytestmark = pytest.mark.timeout(600)
BIGTRAIN = str(Path(sys.executable).parent / "bigtrain")
SCREENSHOTS = ROOT / "build" / "screenshots"


def bigtrain(*words: object) -> str:
    done = subprocess.run([BIGTRAIN, *map(str, words)], capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def here(monkeypatch: pytest.MonkeyPatch, *words: object) -> None:
    """Run a command in this process, which saves its imports."""
    monkeypatch.setattr(sys, "argv", ["bigtrain", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("translation")
    return write_config(root / "pix2pix.yaml", write_pairs(root / "pairs"), root / "run")


@pytest.fixture(scope="module")
def run(config: Path) -> Path:
    """The folder of a run that was trained on two ranks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        bigtrain("train", config, "--nproc", 2)
    return config.parent / "run"


def test_it_is_planned(config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    here(monkeypatch, "plan", config, "micro_batch=1", "--gpu", "a100", "--gpus-per-node", 8)
    shown = capsys.readouterr().out
    for phase in ("d_main", "g_main"):
        assert phase in shown


def test_a_job_is_written(config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    here(monkeypatch, "submit", config, "micro_batch=1", "--nodes", 2, "--gpus-per-node", 4, "--dry-run")
    script = capsys.readouterr().out
    assert "#SBATCH --nodes=2" in script
    assert str(config.parent / "run") in script


@pytest.mark.slow
def test_a_preview_has_a_row_of_input_output_and_target(run: Path) -> None:
    *_, last = sorted((run / "images" / "samples").glob("target-*.png"))
    with Image.open(last) as picture:
        assert picture.width >= 3 * 16
        assert picture.height >= 8 * 16


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("chromedriver"), reason="Debian's chromium-driver is not installed")
def test_its_report_shows_scores_of_pairs_and_pictures(
    run: Path, browser: webdriver.Chrome, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = run.parent / "report.html"
    here(monkeypatch, "report", run, "--out", page)
    browser.set_window_size(1280, 4000)
    browser.get_log("browser")
    browser.get(page.as_uri())
    WebDriverWait(browser, 60).until(lambda driver: driver.find_elements(By.CSS_SELECTOR, ".chart .scatterlayer"))
    assert "psnr" in browser.find_element(By.TAG_NAME, "body").text
    assert "target" in [tab.text for tab in browser.find_elements(By.CSS_SELECTOR, "#pictures .tabs button")]
    assert browser.execute_script("return document.querySelector('.pictures img').naturalWidth") >= 3 * 16
    assert [entry for entry in browser.get_log("browser") if entry["level"] != "DEBUG"] == []
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    browser.save_screenshot(str(SCREENSHOTS / "report-translation.png"))


@pytest.mark.slow
def test_it_is_tuned_by_its_pairs(config: Path, tmp_path: Path) -> None:
    sweep = {
        "base": str(config),
        "overrides": {"preview.interval_kimg": 0, "strategy.kind": "single"},
        "sweep_dir": str(tmp_path / "sweep"),
        "metric": {"name": "psnr"},
        "space": {"objective.terms.l1.weight": {"kind": "choice", "values": [10.0, 100.0]}},
        "budget": {"trials": 2},
        "trial": {"cpus": 1, "at_once": 1},
    }
    path = tmp_path / "sweep.yaml"
    YAML(typ="safe", pure=True).dump(sweep, path)
    bigtrain("tune", path)
    with (tmp_path / "sweep" / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["state"] for row in rows] == ["complete", "complete"]
    assert all(float(row["psnr"]) > 0 for row in rows)
    assert {trial.state for trial in SweepEventLog(tmp_path / "sweep").trials.values()} == {"complete"}
    assert (tmp_path / "sweep" / "winner.yaml").is_file()
