"""A preparation that is killed, and what is left of it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

from tests.conftest import ROOT


def test_a_killed_preparation_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "in").mkdir()
    for number in range(240):
        Image.fromarray(rng.integers(0, 256, (96, 96, 3), dtype=np.uint8)).save(tmp_path / "in" / f"{number}.png")
    (tmp_path / "in" / "broken.png").write_bytes(b"x")

    def command(dest: str) -> list[str]:
        options = ["--resolution=64", "--shard-samples=8", "--workers=2"]
        program = "from bigtrain.cli import main; main()"
        return [sys.executable, "-c", program, "data", "prepare", str(tmp_path / "in"), str(tmp_path / dest), *options]

    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(command("whole"), env=environment, check=True, timeout=120)
    killed = 0
    while killed < 3:
        process = subprocess.Popen(command("set"), env=environment)
        before = len(list((tmp_path / "set.partial").glob("*.index.npy")))
        while process.poll() is None and len(list((tmp_path / "set.partial").glob("*.index.npy"))) < before + 3:
            time.sleep(0.01)
        assert process.poll() is None, "it was done before it was killed"
        process.send_signal(signal.SIGKILL)
        process.wait()
        killed += 1
        assert not (tmp_path / "set").exists()
    again = subprocess.run(command("set"), env=environment, check=True, capture_output=True, text=True, timeout=120)
    assert "images: 240, shards: 31, rejected: 1" in again.stdout
    one, other = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("whole", "set"))
    assert one == other
    assert not list(tmp_path.glob("*.partial"))
