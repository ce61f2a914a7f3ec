"""A real run on two ranks whose data are damaged: it goes on, and says so."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bigtrain.tracking.spool import read_metrics
from tests.conftest import ROOT

pytestmark = pytest.mark.timeout(600)
BIGTRAIN = str(Path(sys.executable).parent / "bigtrain")


def train(data: Path, run: Path, *overrides: str) -> list[str]:
    command = ["train", str(ROOT / "tests" / "tiny.yaml"), f"data.path={data}", f"run_dir={run}"]
    options = ["total_kimg=0.64", "eval.interval_kimg=0", "health.features_kimg=0", "tracking.mlflow=false"]
    return [*command, *options, *overrides, "--nproc", "2"]


def test_a_run_goes_on_without_a_lost_shard_and_counts_it(
    fashion: Path, tmp_path: Path, bigtrain: Callable[..., tuple[int, str, str]]
) -> None:
    data, run = tmp_path / "data", tmp_path / "run"
    shutil.copytree(fashion, data)
    (data / "shard-000003.tar").unlink()
    ways = ["data.loader=processes", "data.sampling={kind: balanced}", "data.flip=true", "data.label_dropout=0.1"]
    done = subprocess.run([BIGTRAIN, *train(data, run, *ways)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "other images will replace 1000 that are missing or truncated" in done.stdout
    assert "damaged: shard-000003.tar" in done.stdout
    assert {json.loads(line)["file"] for line in (run / "quarantine.jsonl").read_text().splitlines()} == {
        "shard-000003.tar"
    }
    replaced = [value for _, value in read_metrics(run)["data/replaced"]]
    assert 0 < replaced[0] <= replaced[-1]

    code, _, told = bigtrain(*train(data, tmp_path / "other", "data.on_corrupt=fail"))
    assert code == 2
    assert "shard-000003.tar: the shard is missing" in told
