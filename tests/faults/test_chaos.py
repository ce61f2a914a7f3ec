"""What users can do to their runs: `bigtrain chaos`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.faults.runs import Runs

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def test_everything_at_once(runs: Runs, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bigtrain", "chaos", str(ROOT / "tests" / "tiny.yaml"), *runs.settings]
    command += [f"data.path={runs.data}", f"run_dir={tmp_path / 'chaos'}", "total_kimg=1.6"]
    command += ["watchdog.step_seconds=20", "watchdog.pause_seconds=60", "--kills", "2", "--json"]
    for fault in ("hang", "stop", "disk", "damage"):
        command += ["--also", fault]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    report = json.loads(done.stdout)
    assert done.returncode == 0, report
    assert report["differences"] == []
    assert sorted(one.split(":")[0] for one in report["faults"]) == ["damage", "disk", "hang", "kill", "kill", "stop"]
    assert report["restarts"] >= 2
    assert report["first_phases"].keys() == {"d_main", "d_main+r1", "g_main"}
    assert sum(report["first_phases"].values()) == 2 * report["first_phases"]["g_main"] >= 2 * report["restarts"]
    assert 0 < report["most_lost_kimg"] <= 0.4  # the newest checkpoint was lost as well, and they come every 0.16
