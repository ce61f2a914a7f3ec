"""The parity matrix: every strategy against one process that uses none, on networks small enough to run all of it.

The oracle is one rank, one micro-batch a step, bare modules in float32. A cell is the same training on other ranks,
with other micro-batches, in another precision, under another strategy. The networks' statistics are those of one
sample, so that all cells compute the same.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch.distributed as dist

from bigtrain.core.config import ConfigError
from bigtrain.strategies import check_strategies
from tests.training import SMALL, Training, by_name, distance

STEPS = 10
GLOBAL_BATCH = 16
WORLDS = (1, 2, 4)
ACCUMULATIONS = (1, 4)
PRECISIONS = ("fp32", "bf16")
STRATEGIES = (
    "single",
    "flat",
    "ddp",
    "fsdp",
    "zero0",
    "zero1",
    "zero2",
    "zero2_offload",
    "zero3",
    "zero3_module",
    "zero3+zero2",
    "fsdp+ddp",
)
"""By the names of `tests.training`; `zero3+zero2` is G's and D's."""
OBJECTIVES: dict[str, dict[str, Any]] = {
    "r1": {"terms": {"r1": {"gamma": 1.0, "interval": 2}}},
    "wgan_gp": {"adversarial": "wasserstein", "terms": {"wgan_gp": {}}},
    "path_length": {"terms": {"path_length": {"interval": 2, "shrink": 1}}},
}
FP32_TOLERANCE = 1e-5


@dataclass(frozen=True)
class Cell:
    """One training of the matrix.

    Attributes:
        strategy: of both players.
        objective: what is differentiated twice.
        world_size: ranks.
        accumulation: micro-batches a rank and step.
        precision: of products and convolutions.
    """

    strategy: str
    objective: str
    world_size: int
    accumulation: int
    precision: Literal["fp32", "bf16"]

    def __str__(self) -> str:
        return f"{self.strategy} {self.objective} world {self.world_size} x{self.accumulation} {self.precision}"


ORACLE = {objective: Cell("single", objective, 1, 1, "fp32") for objective in OBJECTIVES}


def whole_matrix() -> list[Cell]:
    """Return every cell."""
    return [
        Cell(strategy, objective, world_size, accumulation, precision)
        for world_size in WORLDS
        for strategy in STRATEGIES
        for objective in OBJECTIVES
        for accumulation in ACCUMULATIONS
        for precision in PRECISIONS
    ]


def refusal(cell: Cell) -> str | None:
    """Return why a cell is refused before training; None if it is not."""
    training_config = Training.parse({"objective": OBJECTIVES[cell.objective]})
    try:
        check_strategies(by_name(cell.strategy), training_config.demands(), cell.world_size)
    except ConfigError as error:
        return str(error)
    return None


def run(cell: Cell, steps: int, seed: int = 0) -> dict[str, Any]:
    """Train a cell on the ranks that are there; the weights at the beginning and at the end."""
    training = Training(
        {"objective": OBJECTIVES[cell.objective]},
        SMALL,
        global_batch=GLOBAL_BATCH,
        micro_batch=GLOBAL_BATCH // cell.world_size // cell.accumulation,
        precision=cell.precision,
        strategy=cell.strategy,
        seed=seed,
    )
    return training.run(steps)


def errors(cells: list[Cell], oracles: dict[str, dict[str, Any]], steps: int, seed: int = 0) -> dict[str, float]:
    """Return how far each cell ends from its oracle, relative to how far the oracle went. Collective."""
    found = {}
    for cell in cells:
        result = run(cell, steps, seed)
        found[str(cell)] = distance(oracles[cell.objective], result)
        if dist.get_rank() == 0:
            print(f"{cell}: {found[str(cell)]:.2e}", flush=True)
    return found


def covering() -> list[Cell]:
    """Return cells that hold each pair of strategy and objective, and all of the other factors' values in turn."""
    cells = []
    for number, strategy in enumerate(STRATEGIES):
        for turn, objective in enumerate(OBJECTIVES):
            world_size = 1 if strategy == "single" else (4, 1, 2, 2, 1, 2)[(number + turn) % 6]
            accumulation = ACCUMULATIONS[(number + turn) % 2]
            precision = PRECISIONS[(number + 2 * turn) % 3 == 0]
            cells.append(Cell(strategy, objective, world_size, accumulation, precision))
    return cells
