"""Checkpoints on real ranks: the same bits on as many ranks, the same training on others, under another strategy."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from bigtrain.checkpoint import CheckpointConfig, Checkpoints, load_state
from tests.distributed.ranks import on_ranks
from tests.training import Training, distance

STEPS = 3
RESUMED = ("ddp", "fsdp", "zero1", "zero2")
CONFIG: dict[str, Any] = {
    "objective": {"terms": {"r1": {"gamma": 1.0, "interval": 2}, "path_length": {"weight": 1.0, "interval": 2}}},
    "augment": {"kind": "ada", "probability": {"kind": "adaptive"}},
}


def begin(folder: Path, strategy: str) -> tuple[Training, Checkpoints]:
    """Build players anew and load what there is."""
    global_batch = 16 if 16 % dist.get_world_size() == 0 else 12
    training = Training(CONFIG, global_batch=global_batch, strategy=strategy)
    objects = {"progress": training.progress, **training.strategies, **training.task.stateful()}
    checkpoints = Checkpoints(CheckpointConfig(interval_kimg=1, keep=9), folder, objects)
    checkpoints.load_latest()
    return training, checkpoints


def train(folder: Path, strategy: str, saves: list[int]) -> dict[str, Any]:
    """Take some steps and save, as often as told, each time as a process that knows nothing but the checkpoint."""
    for steps in saves:
        training, checkpoints = begin(folder, strategy)
        result = training.run(steps)
        checkpoints.save(training.progress)
        checkpoints.wait()
    return result


def compare(folder: Path) -> dict[str, Any]:
    """Train with and without a new start in between, under every strategy.

    From three ranks on, the place of a gradient in a message decides in which order the ranks' parts are added up.
    """
    for strategy in RESUMED:
        train(folder / f"straight-{strategy}", strategy, [2 * STEPS])
        train(folder / f"resumed-{strategy}", strategy, [STEPS, STEPS])
    return {}


def last(folder: Path) -> dict[str, Any]:
    return load_state(folder / (folder / "latest").read_text().strip())


def assert_same(one: Any, other: Any, where: str = "state") -> None:
    """Compare bit for bit."""
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            assert_same(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    else:
        assert one == other, where


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("resume")
    on_ranks(3, compare, folder, folder)
    return folder


@pytest.mark.parametrize("strategy", RESUMED)
def test_a_new_start_changes_no_bit(folder: Path, strategy: str) -> None:
    resumed = last(folder / f"resumed-{strategy}")
    assert_same(resumed, last(folder / f"straight-{strategy}"))
    assert resumed["D"]["optimizer"]
    assert resumed["augment"]


@pytest.mark.slow
def test_a_new_start_changes_no_bit_on_two_ranks(tmp_path: Path) -> None:
    on_ranks(2, compare, tmp_path, tmp_path)
    for strategy in RESUMED:
        assert_same(last(tmp_path / f"resumed-{strategy}"), last(tmp_path / f"straight-{strategy}"))


def test_a_new_start_changes_no_bit_of_a_single_process(tmp_path: Path, alone: None) -> None:
    train(tmp_path / "straight", "single", [2 * STEPS])
    train(tmp_path / "resumed", "single", [STEPS, STEPS])
    assert_same(last(tmp_path / "resumed"), last(tmp_path / "straight"))


def test_every_rank_writes_its_share(folder: Path) -> None:
    path = folder / "straight-fsdp" / (folder / "straight-fsdp" / "latest").read_text().strip()
    sizes = [file.stat().st_size for file in sorted(path.glob("shard-*.safetensors"))]
    assert len(sizes) == 3
    assert min(sizes) > 0.4 * max(sizes)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ranks_and_strategies_may_change_on_the_way(folder: Path, tmp_path: Path) -> None:
    """2 ranks -> 1 -> 4 -> 2, and from DDP to FSDP2 and back: the same samples, the same training."""
    fixed = on_ranks(2, train, tmp_path, folder / "fixed", "ddp", [8])[0]
    for ranks, strategy in ((2, "ddp"), (1, "ddp"), (4, "fsdp"), (2, "ddp")):
        end = on_ranks(ranks, train, tmp_path, folder / "elastic", strategy, [2])[0]
    straight, elastic = last(folder / "fixed"), last(folder / "elastic")
    assert straight["progress"] == elastic["progress"]
    assert distance(fixed, end) < 1e-4
