"""A rank that stands still ends the run, by its name, with all ranks' stacks."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.conftest import ROOT
from tests.integration.test_training import ranks_of, wait_for

BIN = Path(sys.executable).parent
SHORT = ["total_kimg=0.64", "checkpoint.interval_kimg=0.16", "eval.interval_kimg=0", "preview.interval_kimg=0"]
QUICK = [
    "log.interval_kimg=0.16",
    "snapshot.interval_kimg=0",
    "health.features_kimg=0",
    "tracking.mlflow=false",
    "watchdog.step_seconds=10",
    "watchdog.pause_seconds=12",
]


def test_a_stopped_rank_is_named_and_the_run_ends(fashion: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    command = [str(BIN / "bigtrain"), "train", str(ROOT / "tests/tiny.yaml"), *SHORT, *QUICK, "--nproc", "2"]
    command += [f"data.path={fashion}", f"run_dir={folder}"]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        wait_for(folder, 320, run)
        stopped = ranks_of(folder)[0]
        os.kill(stopped, signal.SIGSTOP)
        began = time.monotonic()
        output, _ = run.communicate(timeout=120)
        assert time.monotonic() - began < 60
    finally:
        run.kill()
    assert run.returncode == 4, output
    named = re.search(rf"rank (\d) \(host \S+, pid {stopped}, in [^)]*\) does not run", output)
    assert named, output
    (hang,) = (folder / "hangs").iterdir()
    culprit, other = int(named[1]), 1 - int(named[1])
    assert "does not run" in (hang / "verdict.txt").read_text()
    assert "trainer.py" in (hang / f"rank-{other}.txt").read_text()
    assert "py-spy dump" in (hang / f"rank-{culprit}-from-outside.txt").read_text()
    assert "gloo:" in (hang / f"collectives-rank-{other}.json").read_text()
    assert not ranks_of(folder), "a rank was left behind"
