"""Make one shard: write a tar and its index, or index a tar of others in place."""

import io
import tarfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_pipelines.class_counts import text_of
from data_pipelines.encoding import Encoding
from data_pipelines.files import atomic_write, sha256_of
from data_pipelines.index import save_index
from data_pipelines.manifest_v3 import FORMAT_3
from data_pipelines.protocol import Rejected
from data_pipelines.shard_table import Shard
from data_pipelines.source import Item, Lost, Reader, Span


@dataclass(frozen=True)
class ShardMaker:
    """Makes shards of a source's items, in any process.

    Attributes:
        folder: where they go.
        reader: of the items.
        encoding: of their fields.
        classes: number of classes.
    """

    folder: Path
    reader: Reader
    encoding: Encoding
    classes: int

    def write(self, task: "ShardTask", on_sample: Callable[[], None]) -> "ShardResult":
        """Write a tar and its index."""
        path = self.folder / f"shard-{task.number:06d}.tar"
        rows, rejected = [], []
        with atomic_write(path) as file, tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for key, item in enumerate(task.items, start=task.first_key):
                try:
                    rows.append(self._add(tar, f"{key:09d}", item))
                except Rejected as answer:
                    rejected.append(Rejection(item.name, answer.reason, answer.detail))
                on_sample()
        if not rows:
            path.unlink()
            return ShardResult(None, rejected)
        return ShardResult(self._indexed(path.name, path, path.with_suffix(".index.npy"), rows), rejected)

    def index(self, task: "ShardTask", on_sample: Callable[[], None]) -> "ShardResult":
        """Index the tar that a task's items lie in, and leave it as it is."""
        rows, rejected = [], []
        for item in task.items:
            try:
                rows.append(self._located(item))
            except Rejected as answer:
                rejected.append(Rejection(item.name, answer.reason, answer.detail))
            on_sample()
        if not rows:
            return ShardResult(None, rejected)
        first = task.items[0].where
        assert isinstance(first, Span | Lost)
        tar = Path(first.path)
        index = self.folder / f"shard-{task.number:06d}.index.npy"
        return ShardResult(self._indexed(str(tar), tar, index, rows), rejected)

    def _add(self, tar: tarfile.TarFile, key: str, item: Item) -> tuple[int, ...]:
        """Add a sample's members to a tar; return its row of the index. All is read before anything is written."""
        row: dict[str, tuple[int, int, int]] = {}
        for place, (name, file) in enumerate(self.encoding.files_of(self.reader, item).items()):
            if file.content:
                start = _add_member(tar, f"{key}.{file.extension}", file.content)
                row[name] = start, len(file.content), zlib.crc32(file.content)
            if place == 0 and item.label >= 0:
                _add_member(tar, f"{key}.cls", str(item.label).encode())
        return self._row(item, row)

    def _located(self, item: Item) -> tuple[int, ...]:
        row: dict[str, tuple[int, int, int]] = {}
        for name, file in self.encoding.files_of(self.reader, item, in_place=True).items():
            if file.content:
                where = item.where if name == self.encoding.first else item.fields[name]
                row[name] = _span(where).offset, len(file.content), zlib.crc32(file.content)
        return self._row(item, row)

    def _row(self, item: Item, files: Mapping[str, tuple[int, int, int]]) -> tuple[int, ...]:
        """Return a row of the index, from where the files lie: first byte, length, CRC-32."""
        found = [files.get(name, (0, 0, 0)) for name in (*self.encoding.stored, *self.encoding.members)]
        if self.encoding.format == FORMAT_3:
            ((offset, size, checksum),) = found
            return (offset, size, item.label, checksum)
        return (item.label, *chain.from_iterable(found))

    def _indexed(self, url: str, tar: Path, index: Path, rows: Sequence[tuple[int, ...]]) -> Shard:
        """Write the index of a tar; return its entry of the manifest."""
        dtype = self.encoding.index_dtype
        save_index(index, rows, dtype)
        labels = np.array(rows, dtype=dtype)["label"]
        histogram = np.bincount(labels[labels >= 0], minlength=self.classes).tolist()
        return Shard(
            url=url,
            index=index.name,
            count=len(rows),
            bytes=tar.stat().st_size,
            sha256=sha256_of(tar),
            class_counts=text_of(histogram),
            index_sha256=sha256_of(index),
        )


class ShardTask(NamedTuple):
    """A shard to be made: its number, the key of its first sample, the items that go into it."""

    number: int
    first_key: int
    items: Sequence[Item]


class Rejection(NamedTuple):
    """A sample that did not get into the set."""

    source: str
    reason: str
    detail: str


class ShardResult(NamedTuple):
    """A shard that was made (None if no sample was left for it), and what did not get into it."""

    shard: Shard | None
    rejected: list[Rejection]


def _span(where: object) -> Span:
    assert isinstance(where, Span)
    return where


def _add_member(tar: tarfile.TarFile, name: str, data: bytes) -> int:
    """Add a member without times or owners, so that equal images make equal tars; return where its data lie."""
    member = tarfile.TarInfo(name)
    member.size = len(data)
    header = tar.offset
    tar.addfile(member, io.BytesIO(data))
    return header + tarfile.BLOCKSIZE
