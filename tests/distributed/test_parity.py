"""A part of the parity matrix that covers it; the whole of it is trained by `python -m benchmarks.parity`."""

import re
from typing import Any

import pytest

from tests.distributed import parity
from tests.distributed.parity import Cell
from tests.distributed.ranks import on_ranks

pytestmark = pytest.mark.timeout(900)  # the first test waits for all ranks
STEPS = 3
CELLS = parity.covering()
BARE = {
    objective: Cell("flat", objective, 1, 4 if objective == "path_length" else 1, "bf16")
    for objective in parity.OBJECTIVES
}


def _oracles() -> dict[str, dict[str, Any]]:
    return {objective: parity.run(cell, STEPS) for objective, cell in parity.ORACLE.items()}


@pytest.fixture(scope="module")
def errors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """Of all cells; those of as many ranks share their processes."""
    folder = tmp_path_factory.mktemp("parity")
    (oracles,) = on_ranks(1, _oracles, folder)
    found: dict[str, float] = {}
    for world_size in parity.WORLDS:
        cells = {cell for cell in [*CELLS, *BARE.values()] if cell.world_size == world_size}
        possible = sorted((cell for cell in cells if parity.refusal(cell) is None), key=str)
        found |= on_ranks(world_size, parity.errors, folder, possible, oracles, STEPS)[0]
    return found


@pytest.mark.parametrize("cell", [cell for cell in CELLS if parity.refusal(cell) is None], ids=str)
def test_a_strategy_trains_as_bare_modules_do(cell: Cell, errors: dict[str, float]) -> None:
    """The regression test of the traps that leave gradients or weights behind; each guard was removed once.

    Then the error of R1 in three steps is: with DeepSpeed's own counting of micro-batches 1.0; past ZeRO-3's engine
    0.49; past DDP 0.40; without FSDP2's reshard 0.14.
    """
    if cell.precision == "fp32":
        assert errors[str(cell)] < parity.FP32_TOLERANCE
    else:
        assert 1e-3 < errors[str(cell)] < 1.5 * errors[str(BARE[cell.objective])]


@pytest.mark.parametrize(
    ("strategy", "objective", "world_size", "reason"),
    [
        ("zero3_module", "r1", 2, "'deepspeed' with gather 'module' has no double backward.*objective.terms.r1"),
        ("zero3+zero3_module", "wgan_gp", 2, "strategy.D: .*use gather 'phase'.*objective.terms.wgan_gp"),
        ("zero3_module+ddp", "path_length", 2, "strategy.G: .*objective.terms.path_length"),
        ("single", "r1", 2, "strategy.kind 'single' trains one rank, there are 2"),
        ("ddp+single", "r1", 4, "strategy.D.kind 'single' trains one rank, there are 4"),
    ],
)
def test_what_cannot_be_computed_is_refused_before_training(
    strategy: str, objective: str, world_size: int, reason: str
) -> None:
    refusal = parity.refusal(Cell(strategy, objective, world_size, 1, "fp32"))
    assert refusal is not None
    assert re.search(reason, refusal), refusal


def test_what_a_player_does_not_need_is_not_asked_of_its_strategy() -> None:
    assert parity.refusal(Cell("zero3_module+ddp", "r1", 2, 1, "fp32")) is None
