"""A preparation that is killed or asked to stop, and what is left of it."""

import os
import subprocess
import sys
import time
from pathlib import Path
from signal import SIGINT, SIGKILL, SIGTERM, SIGUSR1

import numpy as np
import psutil
from PIL import Image

from tests.conftest import ROOT


def test_a_preparation_that_is_killed_or_stopped_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
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
    for number, whom in ((SIGKILL, "it"), (SIGTERM, "all"), (SIGINT, "all"), (SIGUSR1, "it"), (SIGTERM, "it")):
        process = subprocess.Popen(command("set"), env=environment, stderr=subprocess.PIPE, text=True)
        before = len(list((tmp_path / "set.partial").glob("*.index.npy")))
        while process.poll() is None and len(list((tmp_path / "set.partial").glob("*.index.npy"))) < before + 3:
            time.sleep(0.01)
        assert process.poll() is None, "it was done before it was stopped"
        below = psutil.Process(process.pid).children(recursive=True)
        for one in [*(below if whom == "all" else []), process]:
            one.send_signal(number)
        _, told = process.communicate(timeout=60)
        if number != SIGKILL:
            assert process.returncode == 3
            assert told == f"bigtrain: stopped by {number.name}; the same command goes on\n"
        assert not psutil.wait_procs(below, timeout=60)[1], "a process was left behind"
        assert not (tmp_path / "set").exists()
    again = subprocess.run(command("set"), env=environment, check=True, capture_output=True, text=True, timeout=120)
    assert "images: 240, shards: 31, rejected: 1" in again.stdout
    one, other = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("whole", "set"))
    assert one == other
    assert not list(tmp_path.glob("*.partial"))
