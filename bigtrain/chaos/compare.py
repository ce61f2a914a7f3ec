"""Whether two runs ended alike."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from bigtrain.checkpoint import load_state
from bigtrain.core.errors import UserError
from bigtrain.tracking.spool import read_metrics

_OWN_STATE = ("tracker", "health.charts.data_starvation")
"""What differs between two runs anyhow: their MLflow run, and what is measured with a clock."""

_OWN_METRICS = ("time/", "comm/", "memory/", "compute/tflop_per_s", "faults/", "health/data_starvation", "data/retries")


def last_checkpoint(run: Path) -> Path:
    """Return the newest checkpoint of a run.

    Raises:
        UserError: there is none.
    """
    folder = run / "checkpoints"
    if not (folder / "latest").is_file():
        raise UserError(f"{run}: contains no checkpoint")
    return folder / (folder / "latest").read_text().strip()


def differences(one: Path, other: Path) -> list[str]:
    """Return where the last checkpoints and the curves of two runs differ; the checkpoints are compared bit by bit."""
    a, b = last_checkpoint(one), last_checkpoint(other)
    if a.name != b.name:
        return [f"{one.name} ended at {a.name}, {other.name} at {b.name}"]
    return [*_tree(load_state(a), load_state(b), ""), *_curves(one, other)]


def _tree(one: Any, other: Any, where: str) -> Iterator[str]:
    if where in _OWN_STATE:
        return
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted(one.keys() | other.keys()):
            place = f"{where}.{key}".lstrip(".")
            if key in one and key in other:
                yield from _tree(one[key], other[key], place)
            else:
                yield f"{place} is in only one of the checkpoints"
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for number, (a, b) in enumerate(zip(one, other, strict=True)):
            yield from _tree(a, b, f"{where}[{number}]")
    elif isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        if not torch.equal(one, other):
            yield f"{where}: tensors differ"
    elif one != other and not _rounded(one, other, where):
        yield f"{where}: {one!r} and {other!r}"


def _rounded(one: Any, other: Any, where: str) -> bool:
    """Sums for the log are added up in another order when they pass through a checkpoint, and are read from there."""
    numbers = isinstance(one, float) and isinstance(other, float)
    return numbers and where.startswith(("means.", "health.")) and abs(one - other) <= 1e-6 * abs(one)


def _curves(one: Path, other: Path) -> Iterator[str]:
    ours, theirs = read_metrics(one), read_metrics(other)
    for name in sorted(ours.keys() | theirs.keys()):
        if name.startswith(_OWN_METRICS):
            continue
        a, b = ours.get(name, []), theirs.get(name, [])
        if [kimg for kimg, _ in a] != [kimg for kimg, _ in b]:
            yield f"{name}: {len(a)} points and {len(b)}, at other places"
        elif any(abs(x - y) > 1e-6 * max(abs(x), 1e-6) for (_, x), (_, y) in zip(a, b, strict=True)):
            yield f"{name}: other values"
