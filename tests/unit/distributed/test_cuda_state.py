"""State on GPUs, without one: on tensors that say that they are there and have no content."""

import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Shard
from torch.distributed.tensor._dtensor_spec import DTensorSpec, TensorMeta

from bigtrain.checkpoint import CheckpointConfig, Checkpoints, load_state
from bigtrain.checkpoint.contents import join, split
from bigtrain.checkpoint.pieces import Stage, own_pieces, write_pieces
from bigtrain.core.state import Progress
from bigtrain.engine.optimizers import AdamConfig
from bigtrain.strategies.base import TorchStrategy

pytestmark = pytest.mark.usefixtures("alone")
GPU = torch.device("cuda", 0)


class Scale(nn.Module):
    """A player of one weight."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2, 3, device=device))

    def networks(self) -> dict[str, nn.Module]:
        return {}


def step(strategy: TorchStrategy) -> None:
    """Take a step on gradients of one: the engine has no thread for a GPU that is not there."""
    for weight in strategy._moved.values():
        weight.grad = torch.ones_like(weight)
    strategy.step({"lr": 1e-3, "betas": (0.0, 0.99)})


@pytest.mark.parametrize("precision", ["fp32", "bf16", "pure_bf16"])
def test_a_state_from_the_host_goes_to_the_gpu_whole(precision: Any) -> None:
    """Fused Adam reads its number of steps there, and reads garbage, or crashes, where it lies on the host."""
    with FakeTensorMode():
        first, second = (TorchStrategy(Scale(GPU), AdamConfig(lr=1e-3), precision, 1) for _ in range(2))  # type: ignore[arg-type]
        step(first)
        structure, tensors = split(first.state_dict())
        expected = {name: tensor.device for name, tensor in split(first.state_dict())[1].items()}
        on_host = {name: tensor.to("cpu") for name, tensor in tensors.items()}
        second.load_state_dict(join(structure, on_host))
        assert {name: tensor.device for name, tensor in split(second.state_dict())[1].items()} == expected
        assert set(expected.values()) == {GPU}
        step(second)


@pytest.fixture
def mesh() -> DeviceMesh:
    """One GPU that is not there."""
    return DeviceMesh("cuda", torch.arange(1), _init_backend=False)


def sharded(local: torch.Tensor, mesh: DeviceMesh) -> DTensor:
    meta = TensorMeta(local.shape, local.stride(), local.dtype)
    return DTensor(local, DTensorSpec(mesh, (Shard(0),), meta), requires_grad=False)


def test_what_is_staged_stays_on_the_host(mesh: DeviceMesh, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[str] = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: waited.append(threading.current_thread().name))
    with FakeTensorMode():
        whole = torch.ones(4, 3, device=GPU)
        part = sharded(whole, mesh)
    pieces = own_pieces({"whole": whole, "part": part}, 0, 1)
    with FakeTensorMode(allow_non_fake_inputs=True):
        staged = Stage().copy(pieces)
        assert [staged[name].tensor.device.type for name in ("whole", "part")] == ["cpu", "cpu"]
        assert [staged[name].offsets for name in ("whole", "part")] == [(0, 0), (0, 0)]
    assert waited == ["MainThread"]


def test_a_staged_part_is_written_from_the_host(mesh: DeviceMesh, tmp_path: Path) -> None:
    value = torch.arange(12.0).reshape(4, 3)
    write_pieces(tmp_path, Stage().copy(own_pieces({"part": sharded(value, mesh)}, 0, 1)), 0)
    (tmp_path / "checkpoint.json").write_text('{"state": {"$tensor": "part"}}')
    assert torch.equal(load_state(tmp_path), value)  # type: ignore[arg-type]


def test_the_writing_thread_works_on_its_ranks_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread begins on GPU 0: a rank of another would wait for a stream on which nothing happens."""
    settled: dict[str, torch.device] = {}

    def set_device(device: torch.device) -> None:
        settled[threading.current_thread().name] = device

    monkeypatch.setattr(torch.cuda, "set_device", set_device)
    progress, device = Progress(1000, 10), torch.device("cuda", 3)
    checkpoints = Checkpoints(CheckpointConfig(interval_kimg=1), tmp_path, {"progress": progress}, device=device)
    checkpoints.save(progress)
    checkpoints.wait()
    assert settled == {"checkpoint_0": device}
