"""The spool: everything a run reports, one JSON object a line, in the run folder. It is the truth; MLflow is a copy."""

import contextlib
import errno
import json
import os
import re
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from bigtrain.core.logging import log
from bigtrain.tracking.curves import Curves

FILE_NAME = "metrics.jsonl"
OTHER_SPOOLS = "metrics/*.jsonl"
"""Spools of other processes that report on the run, each its own; records as here."""
FILE_KINDS = ("image", "recording", "artifact", "checkpoint", "snapshot", "model")
"""Kinds of records that come with files, which MLflow keeps in its store of artifacts."""
WATCH_NAME = "metrics/watch.jsonl"
"""The spool of `bigtrain evaluate RUN --watch`."""

_METRICS = re.compile(rb'\{"kind": "metrics", "samples_seen": (\d+), "time_ms": (\d+),')
_CHUNK = 2**16
_OF_AN_ATTEMPT = ("start", "end", "rollback", "checkpoint", "artifact")

Record = dict[str, Any]


class Spool:
    """Appends records to `metrics.jsonl`.

    A run that was killed comes back at its last checkpoint and reports again what it had already reported after it.
    Such records are recognised by their place in the run and left out, so that nothing is there twice. A record of
    kind `rollback` takes the run back to its place: what was reported after that place is history, and comes anew.
    A checkpoint notes how long the spool is (`mark`), so that `go_on` reads only what came after it: a run of a month
    has ten million lines.

    A disk that is full does not stop the run: records wait in memory until they can be written.

    Args:
        folder: the run folder.
        name: of the file in it.
    """

    def __init__(self, folder: Path, name: str = FILE_NAME) -> None:
        self._folder, self._path = folder, folder / name
        self._path.parent.mkdir(exist_ok=True)
        _drop_torn_line(self._path)
        self._rolls_up = name == FILE_NAME
        self._curves = Curves()
        self._known: set[_Identity] | None = None
        self._place = 0
        self._waiting: list[bytes] = []
        self._warned = False

    @property
    def starts(self) -> int:
        """How often the run was started."""
        if self._known is None:
            self.go_on(0)
        return self._curves.starts

    def mark(self) -> int:
        """Return the length of the spool, for `go_on` from this place of the run, and write the roll-up.

        What lies before the place of the last report does not come again, and is forgotten.
        """
        self._known = {one for one in self._known or () if one.samples_seen >= self._place}
        if self._rolls_up and self._curves.offset and not self._waiting:
            with contextlib.suppress(OSError):  # a full disk; the next one will do
                self._curves.save(self._folder)
        return self._path.stat().st_size if self._path.is_file() else 0

    def go_on(self, mark: int) -> None:
        """Read what was reported after a checkpoint that noted this length of the spool; 0 reads everything."""
        if not _ends_a_line(self._path, mark):
            mark = 0  # another file has taken its place, or the checkpoint is that of another run (PBT)
        self._known = set()
        self._curves = Curves.load(self._folder, self._path) if self._rolls_up else Curves()
        rolled_up = self._curves.offset
        for record, offset in read_records(self._path, min(mark, rolled_up)):
            if offset > rolled_up:
                self._curves.add(record, offset)
            if offset > mark:
                self._remember(record, self._known)

    def append(self, kind: str, samples_seen: int, **fields: Any) -> None:
        """Add a record of `kind` at a place in the run, unless it is there already."""
        if self._known is None:
            self.go_on(0)
        assert self._known is not None
        record = {"kind": kind, "samples_seen": samples_seen, "time_ms": int(time.time() * 1000), **fields}
        if _identity(record) in self._known:
            return
        self._remember(record, self._known)
        self._place = samples_seen
        self._waiting.append((json.dumps(record) + "\n").encode())
        try:
            size = append_whole(self._path, b"".join(self._waiting))
        except OSError as error:
            if not self._warned:
                log.warning(
                    "%s: cannot be written (%s): training continues, and records are kept in memory", self._path, error
                )
                self._warned = True
        else:
            self._waiting.clear()
            self._curves.offset = size
        self._curves.add(record, self._curves.offset)

    def _remember(self, record: Record, known: "set[_Identity]") -> None:
        if record["kind"] == "rollback":
            known -= {one for one in known if one.samples_seen > record["samples_seen"]}
        known.add(_identity(record))


def append_whole(path: Path, lines: bytes) -> int:
    """Append lines to a file that nobody else writes to: all of them, or, where the disk is full, none.

    Returns:
        The length of the file.

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
    return size + len(lines)


def _ends_a_line(path: Path, offset: int) -> bool:
    """Return whether a line of a spool ends at a byte, or it is the spool's beginning."""
    if offset == 0:
        return True
    if not path.is_file():
        return False
    with path.open("rb") as file:
        file.seek(offset - 1)
        return file.read(1) == b"\n"


def read_records(path: Path, offset: int = 0, kinds: Collection[str] = ()) -> Iterator[tuple[Record, int]]:
    """Iterate over the whole lines from byte `offset` on: each record, and the offset after it.

    Args:
        path: of a spool.
        offset: where to begin.
        kinds: of records that are wanted; others are passed over without a look at them. Empty for all.
    """
    if not path.is_file():
        return
    wanted = tuple(f'{{"kind": "{kind}"'.encode() for kind in kinds)
    with path.open("rb") as file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                return
            offset += len(line)
            if not wanted or line.startswith(wanted):
                yield json.loads(line), offset


def read_outline(path: Path) -> Iterator[Record]:
    """Iterate over a spool's records; of metrics in a row only the last comes, with its place and time alone."""
    waiting: Record | None = None
    with path.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                break
            if head := _METRICS.match(line):
                waiting = {"kind": "metrics", "samples_seen": int(head[1]), "time_ms": int(head[2])}
                continue
            if waiting is not None:
                yield waiting
            waiting = None
            yield json.loads(line)
    if waiting is not None:
        yield waiting


def read_metrics(folder: Path) -> dict[str, list[tuple[float, float]]]:
    """Return every report of every metric as points (kimg, value), in order, without those that a rollback took back.

    What a watch has scored comes with it.
    """
    curves: dict[str, list[tuple[float, float]]] = {}
    for record, _ in read_records(folder / FILE_NAME, kinds=("metrics", "rollback")):
        if record["kind"] == "rollback":
            for points in curves.values():
                points[:] = [point for point in points if point[0] <= record["samples_seen"] / 1000]
        else:
            for name, value in record["metrics"].items():
                curves.setdefault(name, []).append((record["samples_seen"] / 1000, value))
    return _with_watched(folder, curves)


def read_curves(folder: Path) -> dict[str, list[tuple[float, float]]]:
    """Return what `read_metrics` does, at most some 2,000 points a metric: in a moment, however long the run is."""
    path = folder / FILE_NAME
    curves = Curves.load(folder, path)
    for record, offset in read_records(path, curves.offset, kinds=("metrics", "rollback")):
        curves.add(record, offset)
    return _with_watched(folder, curves.points())


def _with_watched(folder: Path, curves: dict[str, list[tuple[float, float]]]) -> dict[str, list[tuple[float, float]]]:
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
    if not path.is_file():
        return
    with path.open("r+b") as file:
        end = size = file.seek(0, os.SEEK_END)
        while end:
            start = max(end - _CHUNK, 0)
            file.seek(start)
            found = file.read(end - start).rfind(b"\n")
            if found >= 0:
                end = start + found + 1
                break
            end = start
        if end < size:
            file.truncate(end)
