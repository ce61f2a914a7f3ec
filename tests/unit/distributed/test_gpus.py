"""Which GPU a rank takes, on machines that are made up."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from bigtrain.distributed import gpus
from bigtrain.distributed.gpus import DeviceError, find_device, gpus_asked_for, runs_on
from bigtrain.distributed.init import join_ranks, leave_ranks
from tests.conftest import ROOT

MAKES = {
    "arange",
    "empty",
    "eye",
    "full",
    "linspace",
    "ones",
    "rand",
    "randint",
    "randn",
    "randperm",
    "tensor",
    "zeros",
}
"""Functions of `torch` that make tensors in host memory unless told otherwise."""


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make up a machine of so many GPUs, which all work unless there is a problem."""

    def make(count: int, problem: str | None = None) -> None:
        monkeypatch.setattr(gpus, "problem_with_cuda", lambda: problem)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)

    return make


@pytest.mark.parametrize(
    ("count", "local_rank", "environment", "index"),
    [
        (8, 3, {}, 3),
        (8, 3, {"CUDA_VISIBLE_DEVICES": "0,1,2,3,4,5,6,7"}, 3),
        (1, 0, {}, 0),
        (1, 3, {"CUDA_VISIBLE_DEVICES": "3"}, 0),  # srun --gpus-per-task=1
        (1, 3, {"SLURM_STEP_GPUS": "3"}, 0),
    ],
)
def test_a_rank_takes_the_gpu_of_its_number_or_the_only_one_it_sees(
    machine: Any, count: int, local_rank: int, environment: dict[str, str], index: int
) -> None:
    machine(count)
    assert find_device(local_rank, environment) == torch.device("cuda", index)


@pytest.mark.parametrize(("count", "environment"), [(2, {}), (2, {"CUDA_VISIBLE_DEVICES": "0,1"}), (1, {})])
def test_more_ranks_than_gpus_are_refused(machine: Any, count: int, environment: dict[str, str]) -> None:
    machine(count)
    with pytest.raises(DeviceError, match=f"local rank 2 has no GPU: {count} are visible"):
        find_device(2, environment)


@pytest.mark.parametrize(
    ("environment", "asked"),
    [
        ({"CUDA_VISIBLE_DEVICES": "0"}, "CUDA_VISIBLE_DEVICES=0"),
        ({"SLURM_JOB_GPUS": "0,1"}, "SLURM_JOB_GPUS=0,1"),
        ({"CUDA_VISIBLE_DEVICES": "", "SLURM_JOB_GPUS": "0"}, None),
        ({"CUDA_VISIBLE_DEVICES": "-1"}, None),
    ],
)
def test_what_gives_gpus_is_named_and_can_be_taken_back(environment: dict[str, str], asked: str | None) -> None:
    assert gpus_asked_for(environment) == asked


def test_gpus_that_were_asked_for_and_do_not_work_end_the_rank(machine: Any) -> None:
    machine(0, "the NVIDIA driver on your system is too old")
    with pytest.raises(DeviceError, match=r"SLURM_JOB_GPUS=1 assigns .* driver .* too old; to train on CPUs, set"):
        find_device(0, {"SLURM_JOB_GPUS": "1"})
    assert find_device(0, {"CUDA_VISIBLE_DEVICES": ""}) == torch.device("cpu")


@pytest.mark.parametrize(("count", "problem"), [(2, None), (0, "no NVIDIA driver")])
def test_deepspeeds_word_for_cpus_is_kept_though_its_launcher_numbers_gpus(
    machine: Any, count: int, problem: str | None
) -> None:
    machine(count, problem)
    assert find_device(1, {"DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": "0,1"}) == torch.device("cpu")


def test_a_build_is_told_from_one_for_other_gpus() -> None:
    built_for = ["sm_75", "sm_80", "sm_90a", "compute_90"]
    assert not runs_on(7, 0, built_for)  # V100
    assert runs_on(7, 5, built_for)
    assert runs_on(8, 6, built_for)  # as sm_80
    assert runs_on(12, 0, built_for)  # from compute_90, compiled as it is loaded
    assert not runs_on(12, 0, built_for[:3])


@pytest.mark.parametrize(
    ("failed", "backend", "aborted"),
    [(True, "cpu:gloo,cuda:nccl", True), (False, "cpu:gloo,cuda:nccl", False), (True, "gloo", False)],
)
def test_a_failed_rank_does_not_wait_for_the_others_on_gpus(
    monkeypatch: pytest.MonkeyPatch, failed: bool, backend: str, aborted: bool
) -> None:
    """NCCL's groups wait, as they are destroyed, for operations that the other ranks never join."""
    told: list[str] = []
    join_ranks()
    destroy = dist.destroy_process_group
    monkeypatch.setattr(dist, "get_backend_config", lambda: backend)
    monkeypatch.setattr(dist, "destroy_process_group", lambda: told.append("destroyed"))
    monkeypatch.setattr(dist.distributed_c10d, "_abort_process_group", lambda: told.append("aborted"))
    leave_ranks(failed=failed)
    destroy()
    assert told == ["aborted" if aborted else "destroyed"]


def unplaced(file: Path) -> Iterator[str]:
    """Yield where a module makes a tensor without saying on which device."""
    for node in ast.walk(ast.parse(file.read_text())):
        if not isinstance(node, ast.Call) or any(keyword.arg == "device" for keyword in node.keywords):
            continue
        name = ast.unparse(node.func)
        if (name.removeprefix("torch.") in MAKES and name.startswith("torch.")) or name.endswith(".cuda"):
            yield f"{file.relative_to(ROOT) if file.is_relative_to(ROOT) else file}:{node.lineno}: {name}"


@pytest.mark.parametrize("package", ["strategies", "tasks", "objectives"])
def test_a_strategy_a_task_or_a_loss_makes_no_tensor_without_naming_its_device(package: str) -> None:
    """Fake GPUs run steps of one rank (tests/unit/test_on_fake_gpus.py), so what a strategy adds is read here."""
    files = sorted((ROOT / "bigtrain" / package).rglob("*.py"))
    assert len(files) > 5
    assert [place for file in files for place in unplaced(file)] == []


def test_what_names_no_device_is_found(tmp_path: Path) -> None:
    (tmp_path / "x.py").write_text("torch.zeros(1)\ntorch.ones(1, device=d)\nx.new_zeros(1)\nx.cuda()\n")
    assert [place.rpartition("/")[2] for place in unplaced(tmp_path / "x.py")] == [
        "x.py:1: torch.zeros",
        "x.py:4: x.cuda",
    ]
