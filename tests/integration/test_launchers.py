"""One rank is one command, whoever starts it: torchrun, accelerate launch, or Slurm's variables."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from bigtrain.checkpoint import load_state
from tests.conftest import ROOT

BIN = Path(sys.executable).parent
QUIET = ["total_kimg=0.32", "eval.interval_kimg=0", "preview.interval_kimg=0", "tracking.mlflow=false"]


def train(fashion: Path, folder: Path) -> list[str]:
    return ["-m", "bigtrain.train", str(ROOT / "tests/tiny.yaml"), *QUIET, f"data.path={fashion}", f"run_dir={folder}"]


def free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def by_torchrun(arguments: list[str]) -> list[subprocess.Popen[bytes]]:
    options = ["--nproc-per-node=2", "--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0", "--local-addr=127.0.0.1"]
    return [subprocess.Popen([str(BIN / "torchrun"), *options, *arguments])]


def by_accelerate(arguments: list[str]) -> list[subprocess.Popen[bytes]]:
    """Told of several GPUs, accelerate starts ranks by torchrun; told --cpu it starts a single one, without a word."""
    options = ["--multi_gpu", "--num_processes=2", "--num_machines=1", "--mixed_precision=no", "--dynamo_backend=no"]
    options += ["--num_cpu_threads_per_process=1", f"--main_process_port={free_port()}"]
    return [subprocess.Popen([str(BIN / "accelerate"), "launch", *options, *arguments])]


def by_slurms_variables(arguments: list[str]) -> list[subprocess.Popen[bytes]]:
    """What srun sets, set by hand: the cluster itself comes with the launcher for Slurm."""
    port = free_port()
    ranks = []
    for rank in ("0", "1"):
        slurm = {"SLURM_STEP_ID": "0", "SLURM_PROCID": rank, "SLURM_NTASKS": "2", "SLURM_LOCALID": rank}
        environment = {**os.environ, **slurm, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
        ranks.append(subprocess.Popen([sys.executable, *arguments], env=environment))
    return ranks


def weights(folder: Path) -> dict[str, Any]:
    state = load_state(folder / "checkpoints" / "kimg000000.320")
    return {name: state[name]["player"] for name in ("D", "G")}


@pytest.fixture(scope="module")
def own(fashion: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What our own launcher's two ranks end with."""
    folder = tmp_path_factory.mktemp("launched") / "own"
    command = [str(BIN / "bigtrain"), "train", *train(fashion, folder)[2:], "--nproc", "2"]
    subprocess.run(command, check=True, capture_output=True)
    return weights(folder)


@pytest.mark.parametrize("launch", [by_torchrun, by_accelerate, by_slurms_variables])
def test_a_launcher_starts_two_ranks_that_train_the_same(
    launch, own: dict[str, Any], fashion: Path, tmp_path: Path
) -> None:
    processes = launch(train(fashion, tmp_path / "run"))
    try:
        assert [process.wait(timeout=120) for process in processes] == [0] * len(processes)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    for player, parameters in weights(tmp_path / "run").items():
        for name, value in parameters.items():
            assert torch.equal(value, own[player][name]), f"{player}.{name}"
