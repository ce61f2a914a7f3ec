"""Read samples by (shard, row), from wherever the shards lie, each checked against its checksum."""

import os
import threading
import zlib
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from io import BufferedReader
from operator import itemgetter
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_pipelines.errors import DataError, UnreachableError
from data_pipelines.faults import Fault
from data_pipelines.fields.decoder import ClassDecoder, FieldDecoder, Fields, new_batch
from data_pipelines.fields.registry import kind_of
from data_pipelines.index import Index, load_index
from data_pipelines.manifest import CLASS, IMAGE
from data_pipelines.order import Location
from data_pipelines.place import Place
from data_pipelines.shard_cache import ShardCache
from data_pipelines.shard_table import Shard
from data_pipelines.trust import check_commands

_CHECKS_AT_ONCE = 16
"""Files that are looked for together: a parallel file system takes about a millisecond for each."""

_SAMPLES_AT_ONCE = 64
"""Samples that are read together: their shards stay open meanwhile."""


class DamageError(DataError):
    """A sample, or the whole shard that it is in, is damaged.

    Attributes:
        fault: what is wrong.
    """

    def __init__(self, fault: Fault, advice: str = "") -> None:
        super().__init__(f"{fault.problem if fault.row is None else fault}{advice}")
        self.fault = fault


class OpenFile:
    """A file that stays open for as long as anybody has it, whichever thread that is.

    Args:
        file: open; what holds it, a lock for example, goes on here.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._descriptor = os.dup(file.fileno())

    def __del__(self) -> None:
        os.close(self._descriptor)

    def read(self, start: int, size: int) -> memoryview:
        """Return bytes; fewer than asked for where the file ends.

        Raises:
            OSError: the disk or the network file system fails.
        """
        return memoryview(os.pread(self._descriptor, size, start))


class Column(NamedTuple):
    """Where a field's files lie in a tar; lists, so that reading one sample touches one number of each.

    Attributes:
        starts: first byte of each sample's file.
        sizes: its length.
        checksums: CRC-32 of its bytes.
    """

    starts: list[int]
    sizes: list[int]
    checksums: list[int]


@dataclass(frozen=True)
class OpenShard:
    """A shard that is being read.

    It is read by `pread`, not mapped: a mapped file that is cut off while it is read kills the process.

    Attributes:
        tar: the file; while it is held, it also stays in the cache.
        index: a row a sample.
        labels: class index of each sample (-1 if unlabelled).
        columns: of the fields that have been read.
    """

    tar: OpenFile
    index: Index
    labels: list[int]
    columns: dict[str, Column] = field(default_factory=dict)


class ShardDataset:
    """The samples of a dataset.

    Files are opened when first read, and no more than `open_shards` stay open. Threads may share a dataset.

    Args:
        place: folder with the manifest, or its URL: `http(s)://` or `s3://`.
        cache: where fetched files are kept; by default, in the user's cache.
        open_shards: shards that stay open.
        run_commands: whether commands that a trusted dataset names as shards (`pipe:`) may be run, see `trust`.

    Attributes:
        manifest: what the dataset holds.
        decoders: of its fields, by name; and of `class`, which any set has: -1 where samples are unlabelled.

    Raises:
        DataError: there is no such dataset, its manifest is damaged, or reading it would run commands.
    """

    def __init__(
        self,
        place: str | Path,
        *,
        cache: ShardCache | None = None,
        open_shards: int = 32,
        run_commands: bool = True,
    ) -> None:
        self._place = Place.find(place, cache)
        self.folder = self._place.folder
        self.manifest = self._place.manifest
        check_commands(self._place.name, self.manifest, may_run=run_commands)
        kinds = {name: kind_of(spec) for name, spec in self.manifest.fields.items()}
        decoders = {name: kind.decoder(self.manifest.fields[name]) for name, kind in kinds.items()}
        self.decoders: dict[str, FieldDecoder] = {**decoders, CLASS: ClassDecoder()}
        self._limit = open_shards
        self._open: OrderedDict[int, OpenShard] = OrderedDict()
        self._broken: dict[int, Fault] = {}
        self._lock = threading.Lock()
        self._place.cache.give_way = self._close_first

    @property
    def is_local(self) -> bool:
        """Whether no shard must be fetched."""
        return self._place.holds_all

    def check_files(self) -> list[Fault]:
        """Return which local shards are missing or not as long as they should be; reads nothing."""
        with ThreadPoolExecutor(_CHECKS_AT_ONCE) as threads:
            found = threads.map(self._fault_of, self.manifest.shards)
            return [fault for fault in found if fault is not None]

    def _fault_of(self, shard: Shard) -> Fault | None:
        try:
            self._place.check(shard)
        except DataError as error:
            return Fault(shard.url, str(error))
        return None

    def locations(self) -> Iterator[Location]:
        """Iterate over all samples as they lie in the shards."""
        for number, shard in enumerate(self.manifest.shards):
            for row in range(shard.count):
                yield Location(number, row)

    def label(self, location: Location) -> int:
        """Return a sample's class index (-1 if unlabelled)."""
        return self.shard(location.shard).labels[location.row]

    def labels_of(self, number: int) -> NDArray[np.int32]:
        """Return the class indices of a shard's samples; reads its index only."""
        return np.ascontiguousarray(self._index(number)["label"])

    def decoders_of(self, names: Iterable[str]) -> dict[str, FieldDecoder]:
        """Return the decoders of some fields.

        Raises:
            DataError: the set has no such field.
        """
        for name in names:
            if name not in self.decoders:
                known = ", ".join(self.manifest.fields)
                raise DataError(f"{self._place.name}: has no field '{name}'; its fields are {known}")
        return {name: self.decoders[name] for name in names}

    def read_raw(self, location: Location, name: str = IMAGE) -> memoryview:
        """Return the file of a sample's field that is stored, or a further member of it that has a checksum.

        Raises:
            DamageError: its bytes do not fit their checksum, or its shard is damaged.
        """
        number, row = location
        shard = self.shard(number)
        return self._read_file(shard.tar, self._column(shard, name), number, row, name)

    def read(self, locations: Sequence[Location], names: Iterable[str] | None = None) -> Fields:
        """Read and decode samples.

        Args:
            locations: of N samples.
            names: of the fields that are wanted; None for all, and `class`.

        Returns:
            The fields: arrays whose first axis is N, such as images, uint8, shape [N, C, H, W], and class indices,
            int64, shape [N] (-1 where unlabelled).

        Raises:
            DataError: a sample's bytes do not fit their checksum, or cannot be decoded; or there is no such field.
        """
        out = new_batch(self.decoders if names is None else self.decoders_of(names), len(locations))
        for error in self.read_batch(locations, out).values():
            raise error
        return out

    def read_batch(self, locations: Sequence[Location], out: Fields) -> dict[int, DamageError]:
        """Read and decode samples into memory that is there.

        Args:
            locations: of N samples.
            out: memory for the fields that are wanted, of `new_batch`.

        Returns:
            What is wrong with those that are damaged, by their places in the batch.
        """
        damaged: dict[int, DamageError] = {}
        for start in range(0, len(locations), _SAMPLES_AT_ONCE):
            part = slice(start, start + _SAMPLES_AT_ONCE)
            fields = {name: array[part] for name, array in out.items()}
            for place, error in self._read_part(locations[part], fields).items():
                damaged[start + place] = error
        return damaged

    def _read_part(self, locations: Sequence[Location], out: Fields) -> dict[int, DamageError]:
        """Read samples of which each shard is looked up once: tiny images cost little more than that."""
        shards: dict[int, OpenShard] = {}
        broken: dict[int, DamageError] = {}
        for number in set(map(itemgetter(0), locations)):
            try:
                shards[number] = self.shard(number)
            except DamageError as error:
                broken[number] = error
        damaged = {}
        if broken:
            damaged = {place: broken[number] for place, (number, _) in enumerate(locations) if number in broken}
        for name, array in out.items():
            if name == CLASS:
                labels = {number: shard.labels for number, shard in shards.items()}
                labels |= {number: [-1] * self.manifest.shards[number].count for number in broken}
                array[...] = [labels[number][row] for number, row in locations]
            else:
                self._read_files(name, locations, shards, array, damaged)
        return damaged

    def _read_files(
        self,
        name: str,
        locations: Sequence[Location],
        shards: Mapping[int, OpenShard],
        out: NDArray[Any],
        damaged: dict[int, DamageError],
    ) -> None:
        """Read and decode one field of samples; those that turn out to be damaged are added to `damaged`."""
        decoder = self.decoders[name]
        sources = {number: (shard.tar, self._column(shard, name)) for number, shard in shards.items()}
        for start in range(0, len(locations), decoder.together):
            files: list[memoryview | None] = []
            for place, (number, row) in enumerate(locations[start : start + decoder.together], start):
                if place in damaged:
                    files.append(None)
                    continue
                tar, column = sources[number]
                try:
                    files.append(self._read_file(tar, column, number, row, name))
                except DamageError as error:
                    damaged[place] = error
                    files.append(None)
            for place, problem in decoder.decode_many(files, out[start : start + len(files)]).items():
                damaged[start + place] = self._damaged(locations[start + place], name, str(problem))

    def _read_file(self, tar: OpenFile, column: Column, number: int, row: int, name: str) -> memoryview:
        starts, sizes, checksums = column
        try:
            data = tar.read(starts[row], sizes[row])
        except OSError as error:
            raise self._damaged(Location(number, row), name, f"it cannot be read ({error})") from None
        if zlib.crc32(data) != checksums[row]:
            raise self._damaged(Location(number, row), name, "its bytes do not match their checksum")
        return data

    def read_into(self, location: Location, out: Fields) -> None:
        """Decode a sample's fields into `out`, one sample's part of a `new_batch`.

        Raises:
            DamageError: one of them is damaged, or its shard is.
        """
        for name, array in out.items():
            if name == CLASS:
                array[...] = self.label(location)
                continue
            data = self.read_raw(location, name)
            try:
                self.decoders[name].decode(data, array)
            except ValueError as error:
                raise self._damaged(location, name, str(error)) from None

    def open_tar(self, number: int) -> BufferedReader:
        """Open a shard's file, fetched first where it lies elsewhere."""
        return self._place.open(self.manifest.shards[number])

    def shard(self, number: int) -> OpenShard:
        """Open a shard, or return it if it is open.

        Raises:
            DamageError: it is damaged or not there; it is not tried again.
            UnreachableError: it cannot be had now; the next call tries again.
        """
        shard = self._open.get(number)
        if shard is not None:
            return shard
        with self._lock:
            if number in self._broken:
                raise DamageError(self._broken[number])
            shard = self._open.get(number)
            if shard is None:
                entry = self.manifest.shards[number]
                try:
                    shard = self._open_shard(number)
                except UnreachableError:
                    raise
                except DataError as error:
                    self._broken[number] = Fault(entry.url, str(error))
                    raise DamageError(self._broken[number]) from None
                self._open[number] = shard
                if len(self._open) > self._limit:
                    self._close_first()
            return shard

    def _close_first(self) -> bool:
        """Close the shard that was opened first, once nobody reads it; False if none is open. Any thread may ask."""
        try:
            self._open.popitem(last=False)
        except KeyError:
            return False
        return True

    def _open_shard(self, number: int) -> OpenShard:
        index = self._index(number)
        with self._place.open(self.manifest.shards[number]) as file:
            tar = OpenFile(file)
        return OpenShard(tar=tar, index=index, labels=index["label"].tolist())

    def _column(self, shard: OpenShard, name: str) -> Column:
        """Return a field's columns; they are taken from the index when first needed, by several threads maybe."""
        column = shard.columns.get(name)
        if column is None:
            parts = [shard.index[part].tolist() for part in self.manifest.index_columns(name)]
            column = shard.columns.setdefault(name, Column(*parts))
        return column

    def _index(self, number: int) -> Index:
        entry = self.manifest.shards[number]
        path = self._place.index(entry, self.manifest.index_dtype.itemsize)
        rows = load_index(path, self.manifest.index_dtype)
        if len(rows) != entry.count:
            raise DataError(f"{path}: {len(rows)} samples, but the manifest says {entry.count}")
        labels = rows["label"]
        found, expected = np.unique(labels[labels >= 0], return_counts=True), self.manifest.class_counts.of(number)
        if not all(map(np.array_equal, found, expected)):
            classes, listed = (dict(zip(*map(np.ndarray.tolist, pair), strict=True)) for pair in (found, expected))
            raise DataError(f"{path}: classes {classes}, but the manifest says {listed}")
        return rows

    def _damaged(self, location: Location, name: str, why: str) -> DamageError:
        problem = why if name == IMAGE else f"field '{name}': {why}"
        fault = Fault(self.manifest.shards[location.shard].url, problem, location.row)
        return DamageError(fault, f" (see: bigtrain data verify --deep {self._place.name})")
