"""The wheel and the sdist install, and work without the clone."""

import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT


@pytest.mark.slow
def test_the_wheel_and_the_sdist_work(tmp_path: Path) -> None:
    done = subprocess.run([ROOT / "scripts" / "check-packages", tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [line.rpartition(", ")[2] for line in done.stdout.splitlines() if "bytes" in line] == ["works", "works"]
