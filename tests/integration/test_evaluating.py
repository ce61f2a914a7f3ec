"""Evaluation in real runs of two ranks: stopped in the middle, kept to the best, watched by a second job, compared."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bigtrain.checkpoint.contents import load_state
from bigtrain.core.logging import console
from bigtrain.tracking.spool import FILE_NAME, WATCH_NAME, read_metrics, read_records
from tests.conftest import ROOT

pytestmark = pytest.mark.timeout(600)
BIGTRAIN = str(Path(sys.executable).parent / "bigtrain")
SCORE = "eval/fid160_efflite0_bf16"


def train(data: Path, run: Path, *overrides: str) -> list[str]:
    config = [str(ROOT / "tests" / "tiny.yaml"), f"data.path={data}", f"run_dir={run}", "total_kimg=0.64"]
    config += [
        "eval.interval_kimg=0.32",
        "eval.samples=160",
        "snapshot.interval_kimg=0.32",
        "preview.interval_kimg=0.32",
    ]
    return [BIGTRAIN, "train", *config, "health.features_kimg=0", *overrides, "--nproc", "2"]


def call(*command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "200"}  # no table is broken
    return subprocess.run([BIGTRAIN, *command], capture_output=True, text=True, env=environment)


def evaluations(run: Path) -> dict[str, Any]:
    """Return the state of the evaluations in the newest checkpoint."""
    newest = max((run / "checkpoints").glob("kimg*"))
    return dict(load_state(newest)["evaluations"])


@pytest.fixture(scope="module")
def watched(fashion: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that a second job watched."""
    run = tmp_path_factory.mktemp("runs") / "watched"
    training = subprocess.Popen(train(fashion, run), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not (run / FILE_NAME).is_file() and training.poll() is None:
        time.sleep(0.1)
    watching = call("evaluate", str(run), "--watch")
    _, err = training.communicate()
    assert training.returncode == 0, err
    assert watching.returncode == 0, watching.stderr
    return run


def test_a_watch_scores_every_snapshot_once_into_the_same_mlflow_run(watched: Path) -> None:
    scored = [record for record, _ in read_records(watched / WATCH_NAME) if record["kind"] == "score"]
    own = [record for record, _ in read_records(watched / FILE_NAME) if record["kind"] == "score"]
    assert [record["samples_seen"] for record in scored] == [320, 640]
    for ours, theirs in zip(own, scored, strict=True):
        assert ours["score"]["protocol"] == theirs["score"]["protocol"]
        assert ours["score"]["value"] == pytest.approx(theirs["score"]["value"], rel=1e-4)
        assert ours["score"]["noise"]["low"] < ours["score"]["value"] < ours["score"]["noise"]["high"]
    again = call("evaluate", str(watched), "--watch")
    assert again.returncode == 0, again.stderr
    assert len(list(read_records(watched / WATCH_NAME))) == 4  # two scores and their metrics, none twice
    run_id = json.loads((watched / "mlflow.json").read_text())["run_id"]
    with sqlite3.connect(watched.parent / "mlflow.db") as database:
        (runs,) = database.execute("select count(*) from runs").fetchone()
        (status,) = database.execute("select status from runs where run_uuid = ?", (run_id,)).fetchone()
        points = database.execute("select step from metrics where run_uuid = ? and key = ?", (run_id, SCORE)).fetchall()
        tag = "select value from tags where run_uuid = ? and key = 'protocol.fid160_efflite0_bf16'"
        (protocol,) = database.execute(tag, (run_id,)).fetchone()
    assert (runs, status) == (1, "FINISHED")
    assert sorted(step for (step,) in points) == [320, 320, 640, 640]
    assert json.loads(protocol) == own[0]["score"]["protocol"]


def test_the_best_is_kept_and_says_its_score(watched: Path) -> None:
    best = json.loads((watched / "snapshots" / "best" / "snapshot.json").read_text())
    state = evaluations(watched)["best"]
    assert best["samples_seen"] == state["samples_seen"]
    assert best["scores"][SCORE] == state["score"]
    snapshot = json.loads((watched / "snapshots" / "kimg000000.640" / "snapshot.json").read_text())
    assert snapshot["scores"][SCORE]["value"] == pytest.approx(read_metrics(watched)[SCORE][-1][1], rel=1e-4)


@pytest.mark.slow
def test_a_stop_in_the_middle_of_an_evaluation_saves_and_the_curve_is_whole(
    watched: Path, fashion: Path, tmp_path: Path
) -> None:
    run, slow = tmp_path / "stopped", ["tracking.mlflow=false", "eval.batch=2"]
    training = subprocess.Popen(train(fashion, run, *slow), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 200  # the preview comes right before the evaluation
    while not list(run.glob("images/samples/fakes-kimg*0.320.png")) and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.5)
    training.send_signal(signal.SIGTERM)
    _, err = training.communicate(timeout=120)
    assert training.returncode == 3, err
    assert evaluations(run)["schedule"]["unfinished"] == ["progress"]
    assert SCORE not in read_metrics(run)
    again = subprocess.run(train(fashion, run, *slow), capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    ours, theirs = read_metrics(run)[SCORE], read_metrics(watched)[SCORE]
    assert [kimg for kimg, _ in ours] == [0.32, 0.64]
    expected = [dict(theirs)[0.32], dict(theirs)[0.64]]
    assert [value for _, value in ours] == pytest.approx(expected, rel=1e-2)  # bf16, in other batches


def test_scores_are_compared_only_where_the_protocol_is_the_same(
    watched: Path, tmp_path: Path, bigtrain: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "width", 200)  # no table is broken
    snapshot = str(watched / "snapshots" / "kimg000000.640")
    options = ["--samples", "160", "--reference-samples", "60", "--dtype", "bf16", "--json"]
    for name, more in (("whole", ["--nproc", "2"]), ("truncated", ["--truncation", "0.5"])):
        done = call("evaluate", snapshot, *options, *more)
        assert done.returncode == 0, done.stderr
        (tmp_path / f"{name}.json").write_text(done.stdout)
    whole, truncated = str(tmp_path / "whole.json"), str(tmp_path / "truncated.json")
    on_two_ranks = json.loads((tmp_path / "whole.json").read_text())[SCORE]["value"]
    on_one = [record for record, _ in read_records(watched / WATCH_NAME) if record["kind"] == "score"][-1]["score"]
    assert on_two_ranks == pytest.approx(on_one["value"], rel=1e-4)
    told = "bigtrain: eval/fid160_efflite0_bf16: these scores cannot be compared: truncation: 1.0 and 0.5\n"
    assert bigtrain("evaluate", "--compare", whole, truncated) == (2, "", told)
    code, out, _ = bigtrain("evaluate", "--compare", str(watched), snapshot)
    assert (code, "within the noise" in out) == (0, True)
    code, _, told = bigtrain("evaluate", "--compare", whole, str(ROOT / "pyproject.toml"))
    assert (code, "neither scores nor a run nor a snapshot" in told) == (2, True)
    code, _, told = bigtrain("evaluate", snapshot, *options, "--ema", "0.05")
    assert (code, "no average of width 0.05; it has none" in told) == (2, True)
