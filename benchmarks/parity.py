"""Train every cell of the parity matrix, and write the tables of docs/explanations/strategies.md.

    python -m benchmarks.parity                      # the whole matrix, about an hour on two cores
    python -m benchmarks.parity --worlds 2 --only zero3 ddp

Prints each cell's error as it comes, keeps them all in parity.csv, and makes the tables of what is there. Exit code 1
if a cell that was trained is not within its tolerance.

A LeakyReLU has a kink, and Adam nearly one: where an activation or a gradient is 0 up to rounding, there are two right
answers, far apart. So a cell in fp32 that is not within its tolerance is trained again from other seeds, with oracles
of theirs, and the table says so. What is wrong is wrong from every seed.
"""

import argparse
import csv
import os
import re
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.distributed import parity
from tests.distributed.parity import Cell
from tests.distributed.ranks import end_ranks, on_ranks

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "explanations" / "strategies.md"
NUMBERS = ROOT / "benchmarks" / "parity.csv"
MARKS = ("<!-- parity: written by benchmarks/parity.py -->", "<!-- /parity -->")
OTHER_SEEDS = (1, 2)
BF16_SLACK = 1.25
"""How much further from the oracle than bare modules in bf16 a strategy in bf16 may end."""


@dataclass(frozen=True)
class Outcome:
    """What became of a cell.

    Attributes:
        error: relative distance from the oracle; None where it was refused.
        refused: why.
        seed: of the training that counts.
    """

    error: float | None
    refused: str = ""
    seed: int = 0


def measure(cells: list[Cell], world_size: int, oracles: dict[str, Any], seed: int = 0) -> dict[Cell, Outcome]:
    """Train the cells of so many ranks that are not refused."""
    reasons = {cell: parity.refusal(cell) for cell in cells if cell.world_size == world_size}
    possible = [cell for cell, reason in reasons.items() if reason is None]
    errors = on_fresh_ranks(world_size, parity.errors, possible, oracles, parity.STEPS, seed) if possible else {}
    return {
        cell: Outcome(None, reason) if reason else Outcome(errors[str(cell)], seed=seed)
        for cell, reason in reasons.items()
    }


def measure_again(found: dict[Cell, Outcome], world_size: int) -> dict[Cell, Outcome]:
    """Train what is not equal in fp32 from other seeds: those that are equal from one of them."""
    equal: dict[Cell, Outcome] = {}
    for seed in OTHER_SEEDS:
        cells = [cell for cell in found if cell not in equal and not is_equal(found[cell]) and cell.precision == "fp32"]
        if cells:
            again = measure(cells, world_size, on_fresh_ranks(1, oracle_runs, seed), seed)
            equal |= {cell: outcome for cell, outcome in again.items() if is_equal(outcome)}
    return equal


def is_equal(outcome: Outcome) -> bool:
    return outcome.error is None or outcome.error <= parity.FP32_TOLERANCE


def oracle_runs(seed: int = 0) -> dict[str, Any]:
    return {objective: parity.run(cell, parity.STEPS, seed) for objective, cell in parity.ORACLE.items()}


def on_fresh_ranks(world_size: int, function: Any, *arguments: Any) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        end_ranks()
        return on_ranks(world_size, function, Path(folder), *arguments)[0]


def floors(found: dict[Cell, Outcome]) -> dict[str, float]:
    """Return each objective's error of bare modules in bf16, the largest over ranks and micro-batches."""
    bare = [(cell.objective, found[cell].error) for cell in found if is_bare_bf16(cell)]
    return {objective: max(e for name, e in bare if name == objective and e is not None) for objective, _ in bare}


def is_bare_bf16(cell: Cell) -> bool:
    return cell.precision == "bf16" and cell.strategy in ("flat", "single")


def tolerance(cell: Cell, floor: dict[str, float]) -> float:
    return parity.FP32_TOLERANCE if cell.precision == "fp32" else BF16_SLACK * floor[cell.objective]


def table(found: dict[Cell, Outcome]) -> str:
    """Write the worst error of each strategy, objective and precision over ranks and micro-batches."""
    kinds = [(objective, precision) for objective in parity.OBJECTIVES for precision in parity.PRECISIONS]
    lines = [
        "| strategy (G + D) | " + " | ".join(f"{objective}, {precision}" for objective, precision in kinds) + " |",
        "|---|" + "---|" * len(kinds),
    ]
    for strategy in parity.STRATEGIES:
        cells = []
        for kind in kinds:
            outcomes = [o for c, o in found.items() if c.strategy == strategy and (c.objective, c.precision) == kind]
            trained = [outcome.error for outcome in outcomes if outcome.error is not None]
            cells.append(f"{max(trained):.1e}" if trained else "refused")
        lines.append(f"| `{strategy}` | " + " | ".join(cells) + " |")
    trained_of = []
    for world_size in parity.WORLDS:
        here = [cell for cell in parity.whole_matrix() if cell.world_size == world_size and not parity.refusal(cell)]
        count = sum(cell in found for cell in here)
        trained_of.append(f"{count} of {len(here)} on {world_size} rank{'s' * (world_size > 1)}")
    reasons = sorted({f"- `{cell.strategy}`: {outcome.refused}" for cell, outcome in found.items() if outcome.refused})
    again = sorted(f"- {cell}: seed {outcome.seed}" for cell, outcome in found.items() if outcome.seed)
    paragraphs = [f"Cells trained so far: {', '.join(trained_of)}."]
    if again:
        paragraphs += ["Equal from another seed, see `benchmarks/parity.py`:", "\n".join(again)]
    paragraphs += ["Refused before training:", "\n".join(reasons)]
    return "\n".join(lines) + "\n\n" + "\n\n".join(paragraphs)


def write_page(found: dict[Cell, Outcome]) -> None:
    """Put the table into the page."""
    page = PAGE.read_text()
    pattern = re.compile(f"{re.escape(MARKS[0])}.*{re.escape(MARKS[1])}", re.DOTALL)
    PAGE.write_text(pattern.sub(lambda _: f"{MARKS[0]}\n{table(found)}\n{MARKS[1]}", page))


def read_numbers() -> dict[Cell, Outcome]:
    """Return what was measured before."""
    if not NUMBERS.exists():
        return {}
    with NUMBERS.open(newline="") as file:
        rows = [dict(row) for row in csv.DictReader(file)]
    found: dict[Cell, Outcome] = {}
    for row in rows:
        cell = Cell(
            row["strategy"],
            row["objective"],
            int(row["world_size"]),
            int(row["accumulation"]),
            row["precision"],
        )
        found[cell] = Outcome(float(row["error"]) if row["error"] else None, row["refused"], int(row.get("seed") or 0))
    return found


def write_numbers(found: dict[Cell, Outcome]) -> None:
    """Keep all cells, in the order of the matrix."""
    with NUMBERS.open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["strategy", "objective", "world_size", "accumulation", "precision", "seed", "error", "refused"])
        for cell in parity.whole_matrix():
            if cell in found:
                outcome = found[cell]
                error = "" if outcome.error is None else f"{outcome.error:.3e}"
                rows.writerow([*vars(cell).values(), outcome.seed, error, outcome.refused])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="STRATEGY", choices=parity.STRATEGIES, default=parity.STRATEGIES)
    parser.add_argument("--worlds", nargs="+", type=int, choices=parity.WORLDS, default=parity.WORLDS)
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    cells = [cell for cell in parity.whole_matrix() if cell.strategy in options.only]
    oracles: dict[str, Any] = on_fresh_ranks(1, oracle_runs)
    trained: dict[Cell, Outcome] = {}
    for world_size in options.worlds:
        here = measure(cells, world_size, oracles)
        trained |= here | measure_again(here, world_size)
        write_numbers(read_numbers() | trained)
    found = read_numbers()
    floor = floors(found)
    write_page(found)
    print(table(found))
    print("bf16 floors:", {objective: f"{value:.1e}" for objective, value in floor.items()})
    failed = False
    for cell in trained:
        error = found[cell].error
        if error is not None and not error <= tolerance(cell, floor):
            print(f"NOT WITHIN {tolerance(cell, floor):.1e}: {cell}: {error:.2e}")
            failed = True
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
