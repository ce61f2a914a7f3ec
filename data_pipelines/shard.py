"""Make one shard: write a tar and its index, or index a tar of others in place."""

import io
import tarfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from data_pipelines.codec import SUFFIXES, encode
from data_pipelines.files import atomic_write, sha256_of
from data_pipelines.index import save_index
from data_pipelines.manifest import Shard
from data_pipelines.protocol import Protocol, Rejected
from data_pipelines.source import Item, Reader, Span


@dataclass(frozen=True)
class Encoding:
    """What becomes of an image.

    Attributes:
        protocol: its size, crop and mode.
        codec: one of `CODECS`; `source` keeps the file as it is.
        quality: of JPEG and WebP.
    """

    protocol: Protocol
    codec: str
    quality: int

    @property
    def words(self) -> str:
        """What is done, for the manifest."""
        if self.codec == "source":
            return f"kept/{self.protocol.size_words} (files as they were, of this size and mode and upright)"
        quality = f"; {self.codec} of quality {self.quality}" if self.codec in ("jpeg", "webp") else ""
        return self.protocol.words + quality

    def file_of(self, reader: Reader, item: Item) -> tuple[str, bytes]:
        """Return the file extension and the bytes of an item's image.

        Raises:
            Rejected: it does not get into the set.
        """
        image = reader.read(item.where)
        if self.codec == "source":
            if not isinstance(image, bytes):
                raise Rejected("format", "pixels, not a file")
            return self.protocol.check_untouched(image), image
        return SUFFIXES[self.codec], encode(self.protocol.apply(image), self.codec, quality=self.quality)


@dataclass(frozen=True)
class ShardMaker:
    """Makes shards of a source's items, in any process.

    Attributes:
        folder: where they go.
        reader: of the items.
        encoding: of the images.
        classes: number of classes.
        fields: kept of each sample.
    """

    folder: Path
    reader: Reader
    encoding: Encoding
    classes: int
    fields: tuple[str, ...]

    def write(self, task: "Task", on_sample: Callable[[], None]) -> "Result":
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
            return Result(None, rejected)
        return Result(self._indexed(path.name, path, path.with_suffix(".index.npy"), rows), rejected)

    def index(self, task: "Task", on_sample: Callable[[], None]) -> "Result":
        """Index the tar that a task's items lie in, and leave it as it is."""
        rows, rejected = [], []
        for item in task.items:
            try:
                rows.append(self._located(item))
            except Rejected as answer:
                rejected.append(Rejection(item.name, answer.reason, answer.detail))
            on_sample()
        if not rows:
            return Result(None, rejected)
        tar = Path(_span(task.items[0].where).path)
        index = self.folder / f"shard-{task.number:06d}.index.npy"
        return Result(self._indexed(str(tar), tar, index, rows), rejected)

    def _add(self, tar: tarfile.TarFile, key: str, item: Item) -> tuple[int, ...]:
        """Add a sample's members to a tar; return its row of the index. All is read before anything is written."""
        suffix, data = self.encoding.file_of(self.reader, item)
        contents = {name: self._field(item, name) for name in self.fields if name in item.fields}
        row = [_add_member(tar, f"{key}.{suffix}", data), len(data), item.label, zlib.crc32(data)]
        if item.label >= 0:
            _add_member(tar, f"{key}.cls", str(item.label).encode())
        for name in self.fields:
            content = contents.get(name, b"")
            row += [_add_member(tar, f"{key}.{name}", content), len(content)] if content else [0, 0]
        return tuple(row)

    def _located(self, item: Item) -> tuple[int, ...]:
        _, data = self.encoding.file_of(self.reader, item)
        row = [_span(item.where).offset, len(data), item.label, zlib.crc32(data)]
        for name in self.fields:
            where = item.fields.get(name)
            row += [0, 0] if where is None else [_span(where).offset, _span(where).size]
        return tuple(row)

    def _field(self, item: Item, name: str) -> bytes:
        where = item.fields[name]
        content = where if isinstance(where, bytes) else self.reader.read(where)
        assert isinstance(content, bytes)
        return content

    def _indexed(self, url: str, tar: Path, index: Path, rows: Sequence[tuple[int, ...]]) -> Shard:
        """Write the index of a tar; return its entry of the manifest."""
        save_index(index, rows, self.fields)
        histogram = [0] * self.classes
        for _, _, label, *_ in rows:
            if label >= 0:
                histogram[label] += 1
        return Shard(
            url=url,
            index=index.name,
            count=len(rows),
            bytes=tar.stat().st_size,
            sha256=sha256_of(tar),
            class_counts=" ".join(map(str, histogram)),
        )


class Task(NamedTuple):
    """A shard to be made: its number, the key of its first sample, the items that go into it."""

    number: int
    first_key: int
    items: Sequence[Item]


class Rejection(NamedTuple):
    """An image that did not get into the set."""

    source: str
    reason: str
    detail: str


class Result(NamedTuple):
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
