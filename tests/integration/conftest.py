"""A server and runs on it that several tests look at: they are made once."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver

from tests.conftest import ROOT
from tests.integration.mlflow_server import Server, mlflow_on_postgres

SHORT = ["total_kimg=0.32", "log.interval_kimg=0.08", "checkpoint.interval_kimg=0.08", "preview.interval_kimg=0.16"]
OPTIONS = [*SHORT, "snapshot.interval_kimg=0", "tracking.system_seconds=0.5", "health.features_kimg=0"]
AUGMENT = ["augment={kind: ada, transforms: bg, probability: {kind: fixed, p: {kind: constant, value: 0.5}}}"]
OFFLINE = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """MLflow on PostgreSQL."""
    with mlflow_on_postgres(tmp_path_factory.mktemp("mlflow")) as started:
        yield started


@pytest.fixture(scope="session")
def seeds(server: Server, fashion: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three seeds that train at once; the last is killed on the way and started again."""
    root = tmp_path_factory.mktemp("runs")
    folders = [root / f"seed{seed}" for seed in range(3)]

    def start(folder: Path) -> subprocess.Popen[str]:
        options = [f"data.path={fashion}", f"run_dir={folder}", f"seed={folder.name[-1]}", f"tracking.uri={server.url}"]
        command = [
            sys.executable,
            "-m",
            "bigtrain.train",
            str(ROOT / "tests" / "tiny.yaml"),
            *options,
            *OPTIONS,
            *AUGMENT,
            f"eval.interval_kimg={0.32 if folder == folders[0] else 0}",
            *(["tracking.parent=hard cases"] if folder == folders[-1] else []),
        ]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "SLURM_JOB_ID": "4711"}
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment)

    first = [start(folder) for folder in folders]
    while not list((folders[-1] / "checkpoints").glob("kimg*[0-9]")):
        assert first[-1].poll() is None, first[-1].communicate()
        time.sleep(0.1)
    first[-1].kill()
    first[-1].communicate()
    again = start(folders[-1])
    for process in (*first[:-1], again):
        _, err = process.communicate(timeout=600)
        assert process.returncode == 0, err
        assert "Traceback" not in err  # a busy machine may say once that MLflow does not answer in time
    return folders


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    """Chromium, without a window and without a past."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for argument in (*OFFLINE.split(), f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(argument)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    yield driver
    driver.quit()
