"""`bigtrain doctor`: the hardware and packages of this machine, and what does not work without those missing."""

import importlib.util
import os
import platform
import shutil
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import torch
import torch.distributed as dist
from rich.table import Table

from bigtrain.core.cache import cache_folder
from bigtrain.core.logging import console
from bigtrain.distributed.gpus import problem_with_cuda
from bigtrain.models.pretrained.efficientnet_lite0 import weights_path


@dataclass(frozen=True)
class Requirement:
    """A component that bigtrain can use, and whether it was found.

    Attributes:
        what: name of the component.
        present: whether it was found.
        detail: its version, path or size; if it is missing, what does not work without it.
    """

    what: str
    present: bool
    detail: str


def examine() -> list[Requirement]:
    """Look for everything that bigtrain can use."""
    return [
        Requirement("bigtrain", True, f"{metadata.version('bigtrain')}, Python {platform.python_version()}"),
        Requirement("torch", True, f"{torch.__version__}, {torch.get_num_threads()} threads, {_cpu_features()}"),
        _cuda(),
        Requirement(
            "gloo",
            dist.is_gloo_available(),
            "several ranks on CPUs" if dist.is_gloo_available() else "several ranks on CPUs are impossible",
        ),
        Requirement(
            "NCCL", _has_nccl(), "several ranks on GPUs" if _has_nccl() else "several ranks on GPUs are impossible"
        ),
        _port(),
        _package("deepspeed", "no ZeRO strategies"),
        _package("ray", "no sweeps"),
        _package("mlflow", "no tracking server and no UI; metrics.jsonl is written nevertheless"),
        _command("sbatch", "Slurm client", "bigtrain submit is impossible"),
        Requirement("extractor efficientnet-lite0", weights_path().is_file(), str(weights_path())),
        Requirement("cache", True, f"{cache_folder()}, {_free(cache_folder())} free"),
        Requirement("disk", True, f"{Path.cwd()}, {_free(Path.cwd())} free"),
    ]


def show(requirements: Sequence[Requirement]) -> None:
    """Print findings as a table."""
    table = Table(box=None, show_header=False)
    table.add_column()
    table.add_column()
    table.add_column(overflow="fold")
    for requirement in requirements:
        mark = "[green]yes[/green]" if requirement.present else "[yellow]no[/yellow]"
        table.add_row(requirement.what, mark, requirement.detail)
    console.print(table)


def _cuda() -> Requirement:
    if problem := problem_with_cuda():
        return Requirement("CUDA", False, f"training runs on the CPU, for tests and small images: {problem}")
    names = {torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())}
    return Requirement("CUDA", True, f"{torch.version.cuda}, {torch.cuda.device_count()} x {', '.join(sorted(names))}")


def _cpu_features() -> str:
    capability = torch.backends.cpu.get_cpu_capability()
    fast = torch._C._has_mkldnn and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return f"{capability}, bf16 {'in hardware' if fast else 'emulated: use precision fp32'}"


def _has_nccl() -> bool:
    return torch.cuda.is_available() and dist.is_nccl_available()


def _port() -> Requirement:
    """Whether ranks of this machine can meet, on a free port of the loopback interface."""
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            return Requirement("loopback ports", True, f"{server.getsockname()[1]} and others are free")
    except OSError as error:
        return Requirement("loopback ports", False, f"several ranks are impossible: {error}")


def _package(name: str, cost: str) -> Requirement:
    if importlib.util.find_spec(name) is None:
        return Requirement(name, False, f"not installed: {cost}")
    return Requirement(name, True, metadata.version(name))


def _command(name: str, what: str, cost: str) -> Requirement:
    path = shutil.which(name)
    return Requirement(what, path is not None, path or f"not found: {cost}")


def _free(path: Path) -> str:
    while not path.exists():
        path = path.parent
    status = os.statvfs(path)
    return f"{status.f_bavail * status.f_frsize / 2**30:.0f} GiB"
