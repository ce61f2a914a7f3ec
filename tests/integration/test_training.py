"""Real runs of the command on two ranks: to the end, stopped, killed, resumed, tracked."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from bigtrain.checkpoint import load_state
from bigtrain.tracking.sender import send_run
from bigtrain.tracking.spool import read_metrics, read_records
from data_pipelines.manifest import Manifest
from tests.conftest import ROOT

pytestmark = pytest.mark.timeout(600)
# 80 steps; what is due comes twice, four or ten times.
SHORT = [
    "total_kimg=1.28",
    "log.interval_kimg=0.128",
    "preview.interval_kimg=0.64",
    "eval.interval_kimg=0.64",
    "snapshot.interval_kimg=0.64",
    "checkpoint.interval_kimg=0.32",
]
BIGTRAIN = str(Path(sys.executable).parent / "bigtrain")
MACHINE = ("time/", "comm/", "faults/", "memory/", "compute/tflop_per_s", "health/data_starvation")
"""Metrics that depend on the machine and its faults, not on the training alone."""


@dataclass
class Command:
    """How to start a run."""

    data: Path
    root: Path

    def __call__(self, name: str, *overrides: str) -> list[str]:
        config = [str(ROOT / "tests" / "tiny.yaml"), f"data.path={self.data}", f"run_dir={self.root / name}"]
        return [BIGTRAIN, "train", *config, *SHORT, *overrides, "--nproc", "2"]


@pytest.fixture(scope="module")
def command(fashion: Path, tmp_path_factory: pytest.TempPathFactory) -> Command:
    return Command(fashion, tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def straight(command: Command) -> Path:
    """A run that nothing disturbed."""
    done = subprocess.run(command("straight", "tracking.models=true"), capture_output=True, text=True, umask=0)
    assert done.returncode == 0, done.stderr
    assert "ui --backend-store-uri sqlite" in done.stdout
    assert done.stderr == ""
    return command.root / "straight"


@pytest.fixture(scope="module")
def profile(command: Command) -> Path:
    """A run that takes its own time, and whose MLflow does not answer."""
    profiled = command("profiled", "profile=true", "tracking.uri=http://127.0.0.1:9")
    done = subprocess.run(profiled, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("MLflow at http://127.0.0.1:9 does not answer") == 1
    assert "Traceback" not in done.stderr
    assert "share of the run" in done.stdout
    return command.root / "profiled"


def wait_for(folder: Path, samples_seen: int, process: subprocess.Popen[str]) -> None:
    """Wait until a run has reported metrics from so far on."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and process.poll() is None:
        if any(record["samples_seen"] >= samples_seen for record, _ in read_records(folder / "metrics.jsonl")):
            return
        time.sleep(0.05)
    process.kill()  # else its output has no end
    pytest.fail(f"the run did not get to {samples_seen}: {process.communicate()}")


def ranks_of(folder: Path) -> list[int]:
    """Return the process ids of the ranks that train into a run folder."""
    found = subprocess.run(["pgrep", "-f", f"run_dir={folder}"], capture_output=True, text=True).stdout.split()
    processes = [psutil.Process(int(pid)) for pid in found]
    agents = [process.pid for process in processes if "launch.agent" in process.cmdline()]
    return [process.pid for process in processes if process.ppid() in agents]  # copies of the agent


def run_id_of(folder: Path) -> str:
    return str(json.loads((folder / "mlflow.json").read_text())["run_id"])


def assert_mlflow_says(folder: Path, expected: str) -> None:
    """Wait until the sender has told MLflow how a run has ended."""
    run_id = run_id_of(folder)
    deadline, status = time.monotonic() + 120, ""
    while status != expected and time.monotonic() < deadline:
        time.sleep(0.5)
        with sqlite3.connect(folder.parent / "mlflow.db") as database:
            (status,) = database.execute("select status from runs where run_uuid = ?", (run_id,)).fetchone()
    assert status == expected


def final_state(folder: Path) -> dict[str, Any]:
    state: dict[str, Any] = load_state(folder / "checkpoints" / "kimg000001.280")
    del state["tracker"]  # the MLflow run differs between two runs
    del state["health"]["charts"]["data_starvation"]  # and so do the clocks
    return state


def assert_same(one: Any, other: Any, where: str = "state") -> None:
    """Compare bit for bit."""
    assert type(one) is type(other), where
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            assert_same(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for number, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_same(a, b, f"{where}[{number}]")
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    else:
        assert one == other, where


def assert_same_curves(one: Path, other: Path) -> None:
    """Compare every metric but times: the same points, none twice, none missing."""
    ours, theirs = read_metrics(one), read_metrics(other)
    names = {name for name in ours.keys() | theirs.keys() if not name.startswith(MACHINE)}
    assert names <= ours.keys() & theirs.keys()
    for name in names:
        assert [kimg for kimg, _ in ours[name]] == [kimg for kimg, _ in theirs[name]], name
        # Sums over steps are added up in another order when they pass through a checkpoint.
        assert [v for _, v in ours[name]] == pytest.approx([v for _, v in theirs[name]], rel=1e-6), name


def test_a_run_leaves_what_it_promises(straight: Path) -> None:
    assert (straight / "curves.png").is_file()
    assert len(list((straight / "images" / "samples").glob("fakes-*.png"))) == 3
    assert json.loads((straight / "environment.json").read_text())["packages"]["torch"] == metadata.version("torch")
    assert sorted(path.name for path in (straight / "snapshots").iterdir()) == [
        "best",
        "kimg000000.640",
        "kimg000001.280",
    ]
    metrics = read_metrics(straight)
    assert [kimg for kimg, _ in metrics["eval/fid40_efflite0_bf16"]] == [0.64, 1.28]
    expected = {"loss/d_main", "loss/g_main", "reg/r1", "logits/real_mean", "signs/real", "lr/G", "time/sec_per_kimg"}
    assert expected <= metrics.keys()
    assert metrics["lr/G"][0][1] == 1e-3
    assert metrics["lr/G"][-1][1] < 2e-4


def test_nothing_in_it_can_be_changed_by_everybody(straight: Path) -> None:
    made = [straight, *straight.rglob("*"), straight.parent / "mlflow.db"]
    assert not [path for path in made if path.stat().st_mode & 0o002]


@pytest.mark.skipif(not shutil.which("pgrep"), reason="Debian's procps is not installed")
@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_stopped_and_killed_between_checkpoints_it_ends_with_the_same_bits(
    command: Command, straight: Path, number: int
) -> None:
    name = f"interrupted-{number}"
    folder = command.root / name
    process = subprocess.Popen(command(name), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(folder, 256, process)
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 3, err
    assert "all saved; the same command resumes" in out
    assert "Traceback" not in err
    process = subprocess.Popen(command(name), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(folder, 768, process)
    ranks = ranks_of(folder)
    assert len(ranks) == 2
    os.kill(ranks[-1], signal.SIGKILL)
    out, _ = process.communicate(timeout=120)
    assert process.returncode not in (0, 3)
    assert "failed with exit code" in out
    assert "resuming from" in out
    assert_mlflow_says(folder, "FAILED")
    again = subprocess.run(command(name), capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert "resuming from" in again.stdout
    assert_same(final_state(folder), final_state(straight))
    assert_same_curves(folder, straight)


def test_a_finished_run_started_again_changes_nothing(command: Command, straight: Path) -> None:
    before, points = final_state(straight), read_metrics(straight)
    again = subprocess.run(command("straight", "tracking.models=true"), capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert_same(final_state(straight), before)
    assert read_metrics(straight) == points


def test_mlflow_has_every_point_once(command: Command, straight: Path) -> None:
    runs = [straight, *(folder for folder in command.root.iterdir() if folder.name.startswith("interrupted"))]
    with sqlite3.connect(command.root / "mlflow.db") as database:
        for folder in runs:
            run_id = run_id_of(folder)
            # What is seen of the nodes has spools of its own.
            ours = "select key, step, value from metrics where run_uuid = ? and key not like 'system/%'"
            rows = database.execute(ours, (run_id,)).fetchall()
            sent = sorted((key, step / 1000, value) for key, step, value in rows)
            spooled = sorted((name, *point) for name, points in read_metrics(folder).items() for point in points)
            assert sent == spooled
            (status,) = database.execute("select status from runs where run_uuid = ?", (run_id,)).fetchone()
            assert status == "FINISHED"
            params = dict(database.execute("select key, value from params where run_uuid = ?", (run_id,)).fetchall())
            assert params["objective.terms.r1.gamma"] == "0.1"
            join = "inputs i on i.source_id = d.dataset_uuid where i.destination_id = ?"
            (digest,) = database.execute(f"select d.digest from datasets d join {join}", (run_id,)).fetchone()
            assert digest == Manifest.load(command.data).digest[:32]  # as much as MLflow takes
    status = subprocess.run([BIGTRAIN, "status", str(straight), "--json"], capture_output=True, text=True, check=True)
    assert json.loads(status.stdout)["mlflow"] == {"run_id": run_id_of(straight), "page": None, "unsent_bytes": 0}


def test_the_model_loads_and_samples(command: Command, straight: Path) -> None:
    with sqlite3.connect(command.root / "mlflow.db") as database:
        (location,) = database.execute(  # of the last snapshot; the best one, if that is another, comes after it
            "select artifact_location from logged_models where source_run_id = ? order by creation_timestamp_ms",
            (run_id_of(straight),),
        ).fetchone()
    code = (
        "import sys, warnings; warnings.simplefilter('ignore')\n"
        "import mlflow, numpy, pandas\n"
        "model = mlflow.pyfunc.load_model(sys.argv[1])\n"
        "table = pandas.DataFrame({'seed': [0, 1, 2], 'class': [3, 3, 9], 'truncation': 0.8})\n"
        "numpy.save(sys.argv[2], model.predict(table))\n"
    )
    out = command.root / "sampled.npy"
    subprocess.run([sys.executable, "-c", code, location, str(out)], check=True, capture_output=True)
    images = np.load(out)
    assert images.shape == (3, 32, 32, 1)
    assert images.dtype == np.uint8

    grid = command.root / "grid.png"
    sample = [BIGTRAIN, "sample", str(straight / "snapshots" / "kimg000001.280"), "--out", str(grid)]
    subprocess.run([*sample, "--seeds", "0-1", "--class", "Dress", "--truncation", "0.8"], check=True)
    picture = np.asarray(Image.open(grid))
    scale = 2  # of this grid
    np.testing.assert_array_equal(picture[scale : 33 * scale : scale, scale : 33 * scale : scale], images[0, :, :, 0])


@pytest.mark.slow  # by default, tests/integration/test_tracking.py lets a server die
def test_what_mlflow_missed_is_sent_later_and_once(command: Command, profile: Path) -> None:
    store = f"sqlite:///{command.root / 'mlflow.db'}"
    subprocess.run([BIGTRAIN, "sync", str(profile), "--uri", store], check=True, capture_output=True)
    assert send_run(profile, uri=store)
    run_id = run_id_of(profile)
    with sqlite3.connect(command.root / "mlflow.db") as database:
        ours = "select count(*) from metrics where run_uuid = ? and key not like 'system/%'"
        (count,) = database.execute(ours, (run_id,)).fetchone()
    assert count == sum(map(len, read_metrics(profile).values()))


@pytest.mark.slow
def test_a_profile_tells_where_the_time_went_and_changes_nothing(profile: Path, straight: Path) -> None:
    found = {path.name for path in (profile / "profile").iterdir()}
    assert {"table.json", "timeline-rank0.json", "timeline-rank1.json", "operators-rank1.json.gz"} <= found
    table = json.loads((profile / "profile" / "table.json").read_text())
    rows = {row["name"]: row for row in table if row["depth"] == 0 or row["name"].endswith("_main")}
    steps = rows["train_step"]["count"]
    assert steps == rows["d_main"]["count"] == rows["g_main"]["count"] == rows["next_batches"]["count"] > 0
    assert rows["evaluate"]["count"] == 2
    calibrated = sum(row["count"] for row in table if row["name"] == "calibrate")
    assert calibrated == 3  # at 0, 0.64 and 1.28 kimg, for previews, scores, snapshots and features alike
    assert rows["d_main"]["seconds"] + rows["g_main"]["seconds"] <= rows["train_step"]["seconds"]
    assert sum(row["share"] for row in table if row["depth"] == 0) <= 1
    weights = [load_state(sorted((run / "checkpoints").glob("kimg*"))[-1]) for run in (profile, straight)]
    for player in ("G", "D"):
        one, other = (state[player]["player"] for state in weights)
        assert all(torch.equal(value, other[name]) for name, value in one.items())
