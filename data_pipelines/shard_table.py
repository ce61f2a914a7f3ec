"""The shards of a large set, in binary files beside the manifest that all processes of a node map.

A manifest of 100,000 shards and 1,000 classes is 274 MB of JSON, which takes 8.5 s to read; with 20,000 classes it is
4.1 GB. Here it is 9 MB that are read, and class counts of which only what is asked for is.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from data_pipelines.class_counts import ENTRY, ClassCounts
from data_pipelines.errors import DataError

TABLE, NAMES, COUNTS = "shards.table", "shards.names", "shards.classes"
"""Files beside `manifest.json`: numbers, names, class counts."""

ROW = np.dtype([("count", "<u4"), ("bytes", "<u8"), ("entries_end", "<u8"), ("sha256", "V32"), ("index_sha256", "V32")])
_ROW_WITHOUT_INDEX = np.dtype(ROW.descr[:-1])
"""Of tables written before 2026-11-30."""
_INSIDE = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*")


@dataclass(frozen=True)
class Shard:
    """One tar file.

    Attributes:
        url: its name relative to the manifest; or where it lies elsewhere: an absolute path, `http(s)://`, `s3://`
            or `pipe:COMMAND`.
        index: name of its index file beside the manifest, see `data_pipelines.index`.
        count: number of samples.
        bytes: size of the tar.
        sha256: of the tar.
        class_counts: numbers of samples of each class, in one text, see `class_counts`; empty where the manifest keeps
            them apart. `Manifest.class_counts` has them in both cases.
        index_sha256: of the index file; empty where the manifest was written before 2026-11-30.
    """

    url: str
    index: str
    count: int
    bytes: int
    sha256: str
    class_counts: str
    index_sha256: str = ""

    def document(self) -> dict[str, Any]:
        """Return what the manifest says of it."""
        return {key: value for key, value in vars(self).items() if key != "index_sha256" or value}

    def content(self) -> dict[str, Any]:
        """Return what a set's digest is of: as the tars decide what the indexes are, those are not in it."""
        return {key: value for key, value in vars(self).items() if key != "index_sha256"}

    def path(self, folder: Path) -> Path | None:
        """Return the local file of a shard whose manifest lies in `folder`; None if it must be fetched."""
        if ELSEWHERE.match(self.url) and not self.url.startswith("/"):
            return None
        return folder / self.url


ELSEWHERE = re.compile(r"/|https?://|s3://|pipe:")


class ShardTable(Sequence[Shard]):
    """Shards in arrays.

    Args:
        rows: type `ROW`.
        names: URL and index of each shard in turn.

    Attributes:
        rows: likewise.
    """

    def __init__(self, rows: NDArray[np.void], names: Sequence[str]) -> None:
        self.rows, self._names = rows, names

    @property
    def urls(self) -> Sequence[str]:
        """Where each shard lies."""
        return self._names[::2]

    def __len__(self) -> int:
        """Count the shards."""
        return len(self.rows)

    @overload
    def __getitem__(self, place: int) -> Shard: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[Shard]: ...

    def __getitem__(self, place: int | slice) -> Shard | Sequence[Shard]:
        """Return a shard, or some."""
        if isinstance(place, slice):
            return [self[number] for number in range(*place.indices(len(self)))]
        place = range(len(self))[place]
        row = self.rows[place]
        url, index = self._names[2 * place], self._names[2 * place + 1]
        of_index = bytes(row["index_sha256"]) if "index_sha256" in (self.rows.dtype.names or ()) else b""
        sha256 = (bytes(row["sha256"]).hex(), "", of_index.hex() if any(of_index) else "")
        return Shard(url, index, int(row["count"]), int(row["bytes"]), *sha256)

    def __iter__(self) -> Iterator[Shard]:
        """Iterate over the shards."""
        return (self[place] for place in range(len(self)))

    def __eq__(self, other: object) -> bool:
        """Compare with another table."""
        if not isinstance(other, ShardTable):
            return NotImplemented
        return self.rows.tobytes() == other.rows.tobytes() and self._names == other._names

    __hash__ = None  # type: ignore[assignment]


def table_files(shards: Sequence[Shard], counts: ClassCounts) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return what the manifest says of a set's shards, and the files that list them, by name.

    Raises:
        DataError: a shard's name has a line break.
    """
    broken = next((shard for shard in shards if "\n" in f"{shard.url}{shard.index}"), None)
    if broken is not None:
        raise DataError(f"a shard's name has a line break in it: {broken.url!r}")
    rows = np.zeros(len(shards), ROW)
    rows["entries_end"] = counts.ends
    for place, shard in enumerate(shards):
        rows[place]["count"], rows[place]["bytes"] = shard.count, shard.bytes
        rows[place]["sha256"] = np.void(bytes.fromhex(shard.sha256))
        if shard.index_sha256:
            rows[place]["index_sha256"] = np.void(bytes.fromhex(shard.index_sha256))
    names = "".join(f"{shard.url}\n{shard.index}\n" for shard in shards).encode()
    files = {TABLE: rows.tobytes(), NAMES: names, COUNTS: counts.entries.tobytes()}
    sha256 = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    totals = " ".join(map(str, counts.totals.tolist()))
    return {"shards": len(shards), "class_totals": totals, "sha256": sha256}, files


def load_table(folder: Path, about: Mapping[str, Any], classes: int) -> tuple[ShardTable, ClassCounts]:
    """Read the files of a set's shards. The class counts are mapped, and checked as they are used.

    Raises:
        ValueError: they are not what the manifest says.
        OSError: they are missing.
    """
    _check(about.keys() == {"shards", "sha256", "class_totals"}, "its table is not shards, sha256 and class_totals")
    number, sha256, totals = about["shards"], about["sha256"], about["class_totals"]
    _check(isinstance(number, int) and number > 0, "it lists no shards")
    _check(isinstance(sha256, dict) and sha256.keys() == {TABLE, NAMES, COUNTS}, "its table has no sha256 of each file")
    _check(isinstance(totals, str) and re.fullmatch(r"[0-9 ]*", totals) is not None, "class_totals is not numbers")
    contents = {name: (folder / name).read_bytes() for name in (TABLE, NAMES)}
    for name, content in contents.items():
        _check(hashlib.sha256(content).hexdigest() == sha256[name], f"{name} was changed after it was written")
    older = len(contents[TABLE]) == number * _ROW_WITHOUT_INDEX.itemsize
    rows = np.frombuffer(contents[TABLE], _ROW_WITHOUT_INDEX if older else ROW)
    names = contents[NAMES].decode().split("\n")[:-1]
    _check(len(rows) == number and len(names) == 2 * number, f"its files do not list {number} shards")
    _check(bool((rows["count"] > 0).all() and (rows["bytes"] > 0).all()), "a shard is empty")
    for url, index in zip(names[::2], names[1::2], strict=True):
        if not (_INSIDE.fullmatch(url) and _INSIDE.fullmatch(index)):
            check_names(url, index)
    ends = rows["entries_end"].astype(np.int64)
    size = (folder / COUNTS).stat().st_size
    _check(bool((np.diff(ends, prepend=0) >= 0).all()) and size == ends[-1] * ENTRY.itemsize, f"{COUNTS} is truncated")
    entries: NDArray[np.void] = np.memmap(folder / COUNTS, ENTRY, "r") if size else np.empty(0, ENTRY)
    counts = ClassCounts(classes, ends, entries)
    known = np.array(totals.split(), dtype=np.int64)
    _check(len(known) == classes, f"class_totals is not {classes} numbers")
    counts.__dict__["totals"] = known  # the manifest vouches for them; to add them up would read all
    return ShardTable(rows, names), counts


def check_names(url: str, index: str) -> None:
    """Check that a shard's names do not lead out of the dataset's folder.

    Raises:
        ValueError: they do.
    """
    outside = not ELSEWHERE.match(url) and not _stays_inside(url)
    _check(not outside and _stays_inside(index), f"a shard, {url!r}, points outside of the dataset folder")


def _stays_inside(name: str) -> bool:
    return name != "" and not name.startswith("/") and ".." not in name.split("/") and "\\" not in name


def _check(holds: bool, problem: str) -> None:
    if not holds:
        raise ValueError(problem)
