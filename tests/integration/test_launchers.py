"""One rank is one command, whoever starts it: torchrun, accelerate, deepspeed, mpirun, or srun on a Slurm cluster."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from bigtrain.checkpoint import load_state
from tests.conftest import ROOT
from tests.integration.slurm_cluster import missing_programs, slurm_cluster

BIN = Path(sys.executable).parent
QUIET = ["total_kimg=0.128", "eval.interval_kimg=0", "preview.interval_kimg=0", "tracking.mlflow=false"]
QUIET += ["health.features_kimg=0", "snapshot.interval_kimg=0"]


def train(fashion: Path, folder: Path) -> list[str]:
    return ["-m", "bigtrain.train", str(ROOT / "tests/tiny.yaml"), *QUIET, f"data.path={fashion}", f"run_dir={folder}"]


def free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


@contextmanager
def by_torchrun(arguments: list[str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    options = ["--nproc-per-node=2", "--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0", "--local-addr=127.0.0.1"]
    yield subprocess.Popen([str(BIN / "torchrun"), *options, *arguments])


@contextmanager
def by_accelerate(arguments: list[str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Told of several GPUs, accelerate starts ranks by torchrun; told --cpu it starts a single one, without a word."""
    options = ["--multi_gpu", "--num_processes=2", "--num_machines=1", "--mixed_precision=no", "--dynamo_backend=no"]
    options += ["--num_cpu_threads_per_process=1", f"--main_process_port={free_port()}"]
    yield subprocess.Popen([str(BIN / "accelerate"), "launch", *options, *arguments])


@contextmanager
def by_deepspeed(arguments: list[str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """DeepSpeed's launcher counts devices; for CPUs it is told how many there are."""
    module = ["--no_local_rank", "--module", *arguments[1:]]
    options = ["--num_accelerators=2", f"--master_port={free_port()}", "--master_addr=127.0.0.1", *module]
    environment = {**os.environ, "DS_ACCELERATOR": "cpu", "LOCAL_SIZE": "2", "PATH": f"{BIN}:{os.environ['PATH']}"}
    yield subprocess.Popen([str(BIN / "deepspeed"), *options], env=environment, cwd=folder)


@contextmanager
def by_srun(arguments: list[str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """One task a rank on two nodes of a real Slurm; all that is added is where rank 0 listens."""
    if missing_programs():
        pytest.skip(f"Slurm is not installed ({', '.join(missing_programs())}): run scripts/system-packages")
    with slurm_cluster(folder / "slurm") as cluster:
        environment = {**cluster.environment, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
        srun = ["srun", "--nodes=2", "--ntasks=2", "--ntasks-per-node=1", sys.executable]
        yield subprocess.Popen([*srun, *arguments], env=environment)


@contextmanager
def by_mpirun(arguments: list[str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Open MPI's launcher, which `make test-all` installs."""
    mpirun = shutil.which("mpirun", path=os.pathsep.join([str(BIN), os.environ["PATH"]]))
    assert mpirun, "install tests/slow-requirements.txt"
    may = {
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "PRTE_MCA_hwloc_default_binding_policy": "none",
    }
    environment = {**os.environ, **may, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    yield subprocess.Popen([mpirun, "-n", "2", sys.executable, *arguments], env=environment)


def weights(folder: Path) -> dict[str, Any]:
    state = load_state(folder / "checkpoints" / "kimg000000.128")
    return {name: state[name]["player"] for name in ("D", "G")}


@pytest.fixture(scope="module")
def own(fashion: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What our own launcher's two ranks end with."""
    folder = tmp_path_factory.mktemp("launched") / "own"
    command = [str(BIN / "bigtrain"), "train", *train(fashion, folder)[2:], "--nproc", "2"]
    subprocess.run(command, check=True, capture_output=True)
    return weights(folder)


@pytest.mark.parametrize(
    "launch",
    [
        by_torchrun,
        by_accelerate,
        by_srun,
        pytest.param(by_deepspeed, marks=pytest.mark.slow),
        pytest.param(by_mpirun, marks=pytest.mark.slow),
    ],
)
def test_a_launcher_starts_two_ranks_that_train_the_same(
    launch, own: dict[str, Any], fashion: Path, tmp_path: Path
) -> None:
    with launch(train(fashion, tmp_path / "run"), tmp_path) as launcher:
        try:
            assert launcher.wait(timeout=240) == 0
        finally:
            launcher.kill()
            launcher.wait()
    for player, parameters in weights(tmp_path / "run").items():
        for name, value in parameters.items():
            assert torch.equal(value, own[player][name]), f"{player}.{name}"
