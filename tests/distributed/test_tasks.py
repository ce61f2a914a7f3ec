"""Tasks on several ranks: equal to one process, also after a change of their number."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from tests.distributed.ranks import on_ranks
from tests.float64 import float64
from tests.task_training import MICRO_BATCHES_MATTER, TaskTraining
from tests.training import distance

FAMILIES = (
    "pix2pix",
    "pix2pix_penalised",
    "spade",
    "edges_first",
    "vocoder",
    "cyclegan",
    "cut",
    "stylisation",
    "point_clouds",
    "clips",
    "views",
    "tgan",
    "dvdgan",
    "frame_prediction",
)
STRATEGIES = ("ddp", "fsdp", "zero2")
EVERYWHERE = ("pix2pix", "cyclegan", "clips")
"""Families that are tested under every strategy each time: with one generator, with two, with arrays of four axes."""

Cell = tuple[str, str]
CELLS = [(name, strategy) for name in FAMILIES for strategy in STRATEGIES if strategy == "ddp" or name in EVERYWHERE]
MORE = [(name, strategy) for name in FAMILIES for strategy in STRATEGIES if (name, strategy) not in CELLS]


def train(name: str, strategy: str, micro_batch: int) -> Any:
    if name in MICRO_BATCHES_MATTER:
        micro_batch = 8 // dist.get_world_size()
    with float64():
        return TaskTraining(name, strategy=strategy, micro_batch=micro_batch).run(3)


def train_all(micro_batch: int, cells: list[Cell]) -> dict[Cell, Any]:
    return {cell: train(*cell, micro_batch) for cell in cells}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[Cell, Any]:
    alone = on_ranks(1, train_all, tmp_path_factory.mktemp("one"), 2, [(name, "single") for name in FAMILIES])[0]
    return alone | on_ranks(2, train_all, tmp_path_factory.mktemp("two"), 2, CELLS)[0]


@pytest.fixture(scope="module")
def more_runs(runs: dict[Cell, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[Cell, Any]:
    return runs | on_ranks(2, train_all, tmp_path_factory.mktemp("more"), 2, MORE)[0]


@pytest.mark.parametrize(("name", "strategy"), CELLS)
def test_two_ranks_are_one_process(runs: dict[Cell, Any], name: str, strategy: str) -> None:
    assert_equal(runs[name, "single"], runs[name, strategy], strategy)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "strategy"), MORE)
def test_two_ranks_are_one_process_under_more_strategies(more_runs: dict[Cell, Any], name: str, strategy: str) -> None:
    assert_equal(more_runs[name, "single"], more_runs[name, strategy], strategy)


def assert_equal(one: Any, two: Any, strategy: str) -> None:
    # DeepSpeed moves float32 copies of the weights, and rounds them in each of the three steps.
    rounded = {**one, "weights": {name: value.float().double() for name, value in one["weights"].items()}}
    assert distance(one, two) < (1e-5 + 3 * distance(one, rounded) if strategy == "zero2" else 1e-10)
    assert one["means"].keys() == two["means"].keys()


def first_half(folder: Path) -> None:
    with float64():
        training = TaskTraining("cyclegan", strategy="ddp", micro_batch=2)
        training.run(3)
    torch.save(training.state_dict(), folder / "state.pt")


def second_half(folder: Path, strategy: str) -> Any:
    with float64():
        training = TaskTraining("cyclegan", strategy=strategy, micro_batch=2, seed=1)
        training.load_state_dict(torch.load(folder / "state.pt", weights_only=True))
        result = training.run(3)
    return {**result, "state": training.state_dict()["pool_D_A"]}


def whole() -> Any:
    with float64():
        training = TaskTraining("cyclegan", micro_batch=2)
        result = training.run(6)
    return {**result, "state": training.state_dict()["pool_D_A"]}


def test_pools_go_on_with_another_number_of_ranks(tmp_path: Path) -> None:
    expected = on_ranks(1, whole, tmp_path)[0]
    on_ranks(2, first_half, tmp_path, tmp_path)
    found = on_ranks(1, second_half, tmp_path, tmp_path, "single")[0]
    assert found["state"].keys() == expected["state"].keys()
    for place, state in expected["state"].items():
        torch.testing.assert_close(found["state"][place]["images"], state["images"], rtol=1e-6, atol=1e-6)
    assert distance({**found, "start": expected["start"]}, expected) < 1e-9
