"""Training as a container often has it: a user number without a name, no $HOME, hardly any environment."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from data_pipelines.write import write_shards
from tests.conftest import ROOT, tiny_source

USER = 12345
CAPABILITY = "+dac_read_search"
"""Python and this repository may lie where only root looks."""


@pytest.mark.slow
@pytest.mark.skipif(os.getuid() != 0 or not shutil.which("setpriv"), reason="needs root and setpriv")
def test_it_trains_and_reports_to_mlflow(tmp_path: Path) -> None:
    write_shards(tiny_source(200, size=32, classes=10), tmp_path / "set")
    place = tmp_path / "place"
    place.mkdir()
    os.chown(place, USER, USER)
    rights = [f"--reuid={USER}", f"--regid={USER}", "--clear-groups", f"--inh-caps={CAPABILITY}"]
    command = ["setpriv", *rights, f"--ambient-caps={CAPABILITY}", sys.executable, "-m", "bigtrain"]
    words = ["train", str(ROOT / "tests" / "tiny.yaml"), "total_kimg=0.064", "eval.interval_kimg=0", "run_dir=run"]
    done = subprocess.run(
        [*command, *words, f"data.path={tmp_path / 'set'}"],
        cwd=place,
        env={"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "TMPDIR": str(place)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert (place / "mlflow.db").is_file()
    assert (place / "run" / "mlflow.json").is_file()
