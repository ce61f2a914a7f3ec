"""The spool: everything a run reports, one JSON object a line, in the run folder. It is the truth; MLflow is a copy."""

import errno
import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from bigtrain.core.logging import log

FILE_NAME = "metrics.jsonl"
OTHER_SPOOLS = "metrics/*.jsonl"
"""Spools of other processes that report on the run, each its own; records as here."""
WATCH_NAME = "metrics/watch.jsonl"
"""The spool of `bigtrain evaluate RUN --watch`."""

_OF_AN_ATTEMPT = ("start", "end", "rollback", "checkpoint", "artifact")

Record = dict[str, Any]


class Spool:
    """Appends records to `metrics.jsonl`.

    A run that was killed comes back at its last checkpoint and reports again what it had already reported after it.
    Such records are recognised by their place in the run and left out, so that nothing is there twice. A record of
    kind `rollback` takes the run back to its place: what was reported after that place is history, and comes anew.

    A disk that is full does not stop the run: records wait in memory until they can be written.

    Args:
        folder: the run folder.
        name: of the file in it.

    Attributes:
        starts: how often the run was started.
    """

    def __init__(self, folder: Path, name: str = FILE_NAME) -> None:
        self._path = folder / name
        self._path.parent.mkdir(exist_ok=True)
        _drop_torn_line(self._path)
        self.starts = 0
        self._known: set[_Identity] = set()
        self._waiting: list[bytes] = []
        self._warned = False
        for record, _ in read_records(self._path):
            self._remember(record)

    def append(self, kind: str, samples_seen: int, **fields: Any) -> None:
        """Add a record of `kind` at a place in the run, unless it is there already."""
        record = {"kind": kind, "samples_seen": samples_seen, "time_ms": int(time.time() * 1000), **fields}
        if _identity(record) in self._known:
            return
        self._remember(record)
        self._waiting.append((json.dumps(record) + "\n").encode())
        try:
            append_whole(self._path, b"".join(self._waiting))
        except OSError as error:
            if not self._warned:
                log.warning("%s: cannot be written (%s): training goes on, reports wait in memory", self._path, error)
                self._warned = True
        else:
            self._waiting.clear()

    def _remember(self, record: Record) -> None:
        if record["kind"] == "rollback":
            self._known = {one for one in self._known if one.samples_seen <= record["samples_seen"]}
        self._known.add(_identity(record))
        self.starts += record["kind"] == "start"


def append_whole(path: Path, lines: bytes) -> None:
    """Append lines to a file that nobody else writes to: all of them, or, where the disk is full, none.

    Raises:
        OSError: it cannot be written.
    """
    with path.open("ab", buffering=0) as file:
        size = file.tell()
        try:
            if file.write(lines) < len(lines):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            file.truncate(size)
            raise


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

    What a watch has scored comes with it.
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
    about = tuple(sorted(record["metrics"])) if record["kind"] == "metrics" else (record.get("key"), record.get("text"))
    attempt = record["time_ms"] if record["kind"] in _OF_AN_ATTEMPT else None
    return _Identity(record["kind"], record["samples_seen"], about, attempt)


def _drop_torn_line(path: Path) -> None:
    """Cut off a last line that a crash left unfinished."""
    if path.is_file():
        data = path.read_bytes()
        if not data.endswith(b"\n"):
            with path.open("r+b") as file:
                file.truncate(data.rfind(b"\n") + 1)
