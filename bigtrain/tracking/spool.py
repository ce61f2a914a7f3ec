"""The spool: everything a run reports, one JSON object a line, in the run folder. It is the truth; MLflow is a copy."""

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

FILE_NAME = "metrics.jsonl"
WATCH_NAME = "watch.jsonl"
"""What a second job reports of the run, see `bigtrain.watch`: every file has one process that writes it."""

Record = dict[str, Any]


class Spool:
    """Appends records to `metrics.jsonl`.

    A run that was killed comes back at its last checkpoint and reports again what it had already reported after it.
    Such records are recognised by their place in the run and left out, so that nothing is there twice. A record of
    kind `rollback` takes the run back to its place: what was reported after that place is history, and comes anew.

    Args:
        folder: the run folder.
        name: of the file.
    """

    def __init__(self, folder: Path, name: str = FILE_NAME) -> None:
        self._path = folder / name
        _drop_torn_line(self._path)
        self._known: set[_Identity] = set()
        for record, _ in read_records(self._path):
            self._remember(record)

    def append(self, kind: str, samples_seen: int, **fields: Any) -> None:
        """Add a record of `kind` at a place in the run, unless it is there already."""
        record = {"kind": kind, "samples_seen": samples_seen, "time_ms": int(time.time() * 1000), **fields}
        if _identity(record) in self._known:
            return
        self._remember(record)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def _remember(self, record: Record) -> None:
        if record["kind"] == "rollback":
            self._known = {one for one in self._known if one.samples_seen <= record["samples_seen"]}
        self._known.add(_identity(record))


def read_records(path: Path, offset: int = 0) -> Iterator[tuple[Record, int]]:
    """Iterate over the whole lines from byte `offset` on: each record, and the offset after it."""
    if not path.is_file():
        return
    with path.open("rb") as file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                return
            offset += len(line)
            yield json.loads(line), offset


def read_metrics(folder: Path) -> dict[str, list[tuple[float, float]]]:
    """Return every metric of a run as points (kimg, value), in order, without those that a rollback took back.

    What a second job has scored comes with it.
    """
    curves: dict[str, list[tuple[float, float]]] = {}
    for record, _ in read_records(folder / FILE_NAME):
        if record["kind"] == "rollback":
            for points in curves.values():
                points[:] = [point for point in points if point[0] <= record["samples_seen"] / 1000]
        if record["kind"] == "metrics":
            for name, value in record["metrics"].items():
                curves.setdefault(name, []).append((record["samples_seen"] / 1000, value))
    for record, _ in read_records(folder / WATCH_NAME):
        for name, value in record.get("metrics", {}).items():
            curves.setdefault(name, []).append((record["samples_seen"] / 1000, value))
            curves[name].sort()
    return curves


class _Identity(NamedTuple):
    """What makes two records the same: kind, place in the run, what they are about, and, for some, which attempt."""

    kind: str
    samples_seen: int
    about: Any
    attempt: int | None


def _identity(record: Mapping[str, Any]) -> _Identity:
    about = tuple(sorted(record["metrics"])) if record["kind"] == "metrics" else record.get("key")
    attempt = record["time_ms"] if record["kind"] in ("start", "end", "rollback") else None
    return _Identity(record["kind"], record["samples_seen"], about, attempt)


def _drop_torn_line(path: Path) -> None:
    """Cut off a last line that a crash left unfinished."""
    if path.is_file():
        data = path.read_bytes()
        if not data.endswith(b"\n"):
            with path.open("r+b") as file:
                file.truncate(data.rfind(b"\n") + 1)
