"""The largest micro-batch that fits is found before training, and kept."""

from pathlib import Path
from typing import Any

import pytest
import torch

from bigtrain.config import TrainingConfig, load_training
from bigtrain.core.config import ConfigError
from bigtrain.distributed.init import Ranks
from bigtrain.planning import micro_batch
from bigtrain.planning.micro_batch import (
    MicroBatchTrial,
    candidates,
    predict,
    remember_micro_batch,
    resolve_micro_batch,
)
from bigtrain.run.folder import open_run_folder
from tests.conftest import ROOT

CPU = torch.device("cpu")
ALONE = Ranks(0, 1, 0, CPU)


def config(tmp_path: Path, *overrides: str) -> TrainingConfig:
    fixed = [f"run_dir={tmp_path / 'run'}", "data.path=nowhere", "strategy={kind: single}"]
    return load_training(str(ROOT / "tests" / "tiny.yaml"), [*fixed, "micro_batch=auto", *overrides])


def test_what_fits_is_found_and_remembered(tmp_path: Path, alone: None) -> None:
    trial = MicroBatchTrial(config(tmp_path), CPU)
    budget = (trial.kept + trial.peak(4) * 1.3) / 2**30
    asked = config(tmp_path, f"memory_gib={budget}")
    found = resolve_micro_batch(asked, ALONE)
    assert found.micro_batch == 4
    open_run_folder(found)
    assert remember_micro_batch(asked).micro_batch == 4
    assert resolve_micro_batch(config(tmp_path), ALONE).micro_batch == 16


def test_memory_grows_in_a_straight_line(tmp_path: Path, alone: None) -> None:
    trial = MicroBatchTrial(config(tmp_path), CPU)
    needs = predict(trial.peak, [1, 2, 4, 8, 16])
    assert needs(16) == pytest.approx(trial.peak(16), rel=0.1)


def test_sizes_are_those_that_the_ranks_and_the_objective_take(tmp_path: Path) -> None:
    assert candidates(config(tmp_path), 1) == [1, 2, 4, 8, 16]
    assert candidates(config(tmp_path, "global_batch=24"), 2) == [1, 2, 3, 4, 6, 12]
    averaged: list[Any] = ["objective.adversarial=relativistic_average"]
    assert candidates(config(tmp_path, *averaged), 4) == [2, 4]
    with pytest.raises(ConfigError, match="does not divide over 3 ranks"):
        candidates(config(tmp_path), 3)


def test_nothing_that_fits_is_a_mistake(tmp_path: Path, alone: None) -> None:
    with pytest.raises(ConfigError, match=r"1 images at once need \d+ MiB per rank"):
        resolve_micro_batch(config(tmp_path, "memory_gib=0.0001"), ALONE)


def test_a_trial_leaves_the_gpu_free_and_ranks_agree_on_the_host(
    tmp_path: Path, alone: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyTorch keeps what a trial freed; NCCL's first operation then finds no memory for its buffers."""
    told: list[str] = []
    whole = MicroBatchTrial.peak

    def peak(self: MicroBatchTrial, size: int) -> int:
        told.append(f"trial of {size}")
        self._device = CPU
        return whole(self, size)

    def free_bytes(ranks: Ranks) -> float:
        told.append("free?")
        return 2.0**40

    reduce = torch.distributed.all_reduce

    def all_reduce(tensor: torch.Tensor, op: Any) -> None:
        told.append(f"agreed on {tensor.device.type}")
        reduce(tensor, op=op)

    built = MicroBatchTrial.__init__
    monkeypatch.setattr(MicroBatchTrial, "__init__", lambda self, config, device: built(self, config, CPU))
    monkeypatch.setattr(MicroBatchTrial, "peak", peak)
    monkeypatch.setattr(micro_batch, "free_bytes", free_bytes)
    monkeypatch.setattr(micro_batch, "give_back_memory", lambda device: told.append(f"given back on {device.type}"))
    monkeypatch.setattr(torch.distributed, "all_reduce", all_reduce)
    found = resolve_micro_batch(config(tmp_path), Ranks(0, 1, 0, torch.device("cuda", 0)))
    assert found.micro_batch == 16
    assert told[-3:] == ["given back on cpu", "given back on cuda", "agreed on cpu"]


def test_a_size_that_overflows_is_none_that_runs(tmp_path: Path, alone: None, monkeypatch: pytest.MonkeyPatch) -> None:
    trial = MicroBatchTrial(config(tmp_path), CPU)
    player = trial._task.players["G"]
    weight = next(player.parameters())

    def overflow(size: int) -> int:
        weight.grad = torch.ones_like(weight)
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(trial, "peak", overflow)
    assert not trial.runs(4)
    assert weight.grad is None
