"""Train every cell of the parity matrix, and write the tables of docs/strategies.md.

    python -m benchmarks.parity                      # the whole matrix, about an hour on two cores
    python -m benchmarks.parity --worlds 2 --only zero3 ddp

Prints each cell's error as it comes, keeps them all in parity.csv, and makes the tables of what is there. Exit code 1
if a cell that was trained is not within its tolerance.
"""

import argparse
import csv
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.distributed import parity
from tests.distributed.parity import Cell
from tests.distributed.ranks import on_ranks

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "strategies.md"
NUMBERS = ROOT / "benchmarks" / "parity.csv"
MARKS = ("<!-- parity: written by benchmarks/parity.py -->", "<!-- /parity -->")
BF16_SLACK = 1.25
"""How much further from the oracle than bare modules in bf16 a strategy in bf16 may end."""


def measure(cells: list[Cell], world_size: int, oracles: dict[str, Any]) -> dict[Cell, float | str]:
    """Train the cells of so many ranks that are not refused: the error of each, or the reason of its refusal."""
    reasons = {cell: parity.refusal(cell) for cell in cells if cell.world_size == world_size}
    possible = [cell for cell, reason in reasons.items() if reason is None]
    errors = on_fresh_ranks(world_size, parity.errors, possible, oracles, parity.STEPS) if possible else {}
    return {cell: reason or errors[str(cell)] for cell, reason in reasons.items()}


def oracle_runs() -> dict[str, Any]:
    return {objective: parity.run(cell, parity.STEPS) for objective, cell in parity.ORACLE.items()}


def on_fresh_ranks(world_size: int, function: Any, *arguments: Any) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        return on_ranks(world_size, function, Path(folder), *arguments)[0]


def floors(found: dict[Cell, float | str]) -> dict[str, float]:
    """Return each objective's error of bare modules in bf16, the largest over ranks and micro-batches."""
    bare = [(cell.objective, error) for cell, error in found.items() if is_bare_bf16(cell) and isinstance(error, float)]
    return {objective: max(error for name, error in bare if name == objective) for objective, _ in bare}


def is_bare_bf16(cell: Cell) -> bool:
    return cell.precision == "bf16" and cell.strategy in ("flat", "single")


def tolerance(cell: Cell, floor: dict[str, float]) -> float:
    return parity.FP32_TOLERANCE if cell.precision == "fp32" else BF16_SLACK * floor[cell.objective]


def table(found: dict[Cell, float | str]) -> str:
    """Write the worst error of each strategy, objective and precision over ranks and micro-batches."""
    kinds = [(objective, precision) for objective in parity.OBJECTIVES for precision in parity.PRECISIONS]
    lines = [
        "| strategy (G + D) | " + " | ".join(f"{objective}, {precision}" for objective, precision in kinds) + " |",
        "|---|" + "---|" * len(kinds),
    ]
    for strategy in parity.STRATEGIES:
        cells = []
        for kind in kinds:
            errors = [e for c, e in found.items() if c.strategy == strategy and (c.objective, c.precision) == kind]
            trained = [error for error in errors if isinstance(error, float)]
            cells.append(f"{max(trained):.1e}" if trained else "refused")
        lines.append(f"| `{strategy}` | " + " | ".join(cells) + " |")
    trained_of = []
    for world_size in parity.WORLDS:
        here = [cell for cell in parity.whole_matrix() if cell.world_size == world_size and not parity.refusal(cell)]
        count = sum(isinstance(found.get(cell), float) for cell in here)
        trained_of.append(f"{count} of {len(here)} on {world_size} rank{'s' * (world_size > 1)}")
    reasons = sorted({f"- `{c.strategy}`: {error}" for c, error in found.items() if isinstance(error, str)})
    trained_line = f"Cells trained so far: {', '.join(trained_of)}."
    return "\n".join([*lines, "", trained_line, "", "Refused before training:", "", *reasons])


def write_page(found: dict[Cell, float | str]) -> None:
    """Put the table into the page."""
    page = PAGE.read_text()
    pattern = re.compile(f"{re.escape(MARKS[0])}.*{re.escape(MARKS[1])}", re.DOTALL)
    PAGE.write_text(pattern.sub(lambda _: f"{MARKS[0]}\n{table(found)}\n{MARKS[1]}", page))


def read_numbers() -> dict[Cell, float | str]:
    """Return what was measured before."""
    if not NUMBERS.exists():
        return {}
    with NUMBERS.open(newline="") as file:
        rows = [dict(row) for row in csv.DictReader(file)]
    found: dict[Cell, float | str] = {}
    for row in rows:
        cell = Cell(
            row["strategy"],
            row["objective"],
            int(row["world_size"]),
            int(row["accumulation"]),
            row["precision"],  # type: ignore[arg-type]
        )
        found[cell] = row["refused"] or float(row["error"])
    return found


def write_numbers(found: dict[Cell, float | str]) -> None:
    """Keep all cells, in the order of the matrix."""
    with NUMBERS.open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["strategy", "objective", "world_size", "accumulation", "precision", "error", "refused"])
        for cell in parity.whole_matrix():
            if cell in found:
                error = found[cell]
                result = (f"{error:.3e}", "") if isinstance(error, float) else ("", error)
                rows.writerow([*vars(cell).values(), *result])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="STRATEGY", choices=parity.STRATEGIES, default=parity.STRATEGIES)
    parser.add_argument("--worlds", nargs="+", type=int, choices=parity.WORLDS, default=parity.WORLDS)
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    cells = [cell for cell in parity.whole_matrix() if cell.strategy in options.only]
    oracles: dict[str, Any] = on_fresh_ranks(1, oracle_runs)
    trained: dict[Cell, float | str] = {}
    for world_size in options.worlds:
        trained |= measure(cells, world_size, oracles)
        write_numbers(read_numbers() | trained)
    found = read_numbers()
    floor = floors(found)
    write_page(found)
    print(table(found))
    print("bf16 floors:", {objective: f"{value:.1e}" for objective, value in floor.items()})
    failed = [cell for cell in trained if isinstance(found[cell], float) and not found[cell] <= tolerance(cell, floor)]
    for cell in failed:
        print(f"NOT WITHIN {tolerance(cell, floor):.1e}: {cell}: {found[cell]:.2e}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
