"""Read samples by (shard, row), from wherever the shards lie, each checked against its checksum."""

import os
import threading
import zlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from data_pipelines.codec import Pixels
from data_pipelines.decode import Decoder
from data_pipelines.errors import DataError
from data_pipelines.faults import Fault
from data_pipelines.index import Index, load_index
from data_pipelines.manifest import Manifest, Shard
from data_pipelines.order import Location
from data_pipelines.place import Place
from data_pipelines.shard_cache import ShardCache
from data_pipelines.trust import check_commands

Labels = NDArray[np.int64]


class DamageError(DataError):
    """A sample, or the whole shard that it is in, is damaged.

    Attributes:
        fault: what is wrong.
    """

    def __init__(self, fault: Fault, advice: str = "") -> None:
        super().__init__(f"{fault.problem if fault.row is None else fault}{advice}")
        self.fault = fault


class HeldFile:
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


@dataclass(frozen=True)
class OpenShard:
    """A shard that is being read.

    The columns of its index are lists: reading one sample touches one number of each.

    It is read by `pread`, not mapped: a mapped file that is cut off while it is read kills the process.

    Attributes:
        tar: the file; while it is held, it also stays in the cache.
        index: a row a sample.
        starts: first byte of each sample's image.
        sizes: its length.
        labels: class index of each sample (-1 if unlabelled).
        checksums: CRC-32 of each image's bytes.
    """

    tar: HeldFile
    index: Index
    starts: list[int]
    sizes: list[int]
    labels: list[int]
    checksums: list[int]


class ShardDataset:
    """The samples of a dataset.

    Files are opened when first read, and no more than `open_shards` stay open. Threads may share a dataset.

    Args:
        place: folder with the manifest, or its URL: `http(s)://` or `s3://`.
        cache: where fetched files are kept; by default, in the user's cache.
        open_shards: shards that stay open.
        run_commands: whether commands that a trusted dataset names as shards (`pipe:`) may be run, see `trust`.

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
        self.manifest = Manifest.load(self.folder)
        check_commands(self._place.name, self.manifest, may_run=run_commands)
        self.decoder = Decoder(self.manifest.shape, arrays=self.manifest.codec == "npy")
        self._limit = open_shards
        self._open: OrderedDict[int, OpenShard] = OrderedDict()
        self._broken: dict[int, Fault] = {}
        self._lock = threading.Lock()

    @property
    def is_local(self) -> bool:
        """Whether no shard must be fetched."""
        return self._place.holds_all(self.manifest)

    def check_files(self) -> list[Fault]:
        """Return which local shards are missing or not as long as they should be; reads nothing."""
        faults = []
        for shard in self.manifest.shards:
            try:
                self._place.check(shard)
            except DataError as error:
                faults.append(Fault(shard.url, str(error)))
        return faults

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
        return np.ascontiguousarray(self._index(self.manifest.shards[number])["label"])

    def read_raw(self, location: Location) -> tuple[memoryview, int]:
        """Return a sample's file and its class index.

        Raises:
            DamageError: its bytes do not fit their checksum, or its shard is damaged.
        """
        number, row = location
        shard = self.shard(number)
        try:
            data = shard.tar.read(shard.starts[row], shard.sizes[row])
        except OSError as error:
            raise self._damaged(location, f"it cannot be read ({error})") from None
        if zlib.crc32(data) != shard.checksums[row]:
            raise self._damaged(location, "its bytes do not match their checksum")
        return data, shard.labels[row]

    def read(self, locations: Sequence[Location]) -> tuple[Pixels, Labels]:
        """Read and decode samples.

        Returns:
            Images, uint8, shape [N, C, H, W], and class indices, int64, shape [N] (-1 where unlabelled).

        Raises:
            DataError: a sample's bytes do not fit their checksum, or cannot be decoded.
        """
        images = self.decoder.batch(len(locations))
        labels = np.empty(len(locations), dtype=np.int64)
        for error in self.read_batch(locations, images, labels).values():
            raise error
        return images, labels

    def read_batch(self, locations: Sequence[Location], images: Pixels, labels: Labels) -> dict[int, DamageError]:
        """Read and decode samples into memory that is there.

        Args:
            locations: of N samples.
            images: of a decoder's batch, shape [N, C, H, W].
            labels: for the class indices, shape [N].

        Returns:
            What is wrong with those that are damaged, by their places in the batch.
        """
        damaged: dict[int, DamageError] = {}
        for start in range(0, len(locations), self.decoder.together):
            part = range(start, min(start + self.decoder.together, len(locations)))
            files: list[memoryview | None] = []
            for place in part:
                try:
                    file, labels[place] = self.read_raw(locations[place])
                    files.append(file)
                except DamageError as error:
                    damaged[place] = error
                    files.append(None)
            for place, problem in self.decoder.decode_many(files, images[part.start : part.stop]).items():
                damaged[start + place] = self._damaged(locations[start + place], str(problem))
        return damaged

    def read_into(self, location: Location, out: Pixels) -> int:
        """Decode a sample's image into `out`, shape [C, H, W], of a decoder's batch; return its class index.

        Raises:
            DamageError: it is, or its shard is.
        """
        data, label = self.read_raw(location)
        try:
            self.decoder.decode(data, out)
        except ValueError as error:
            raise self._damaged(location, str(error)) from None
        return label

    def open_tar(self, number: int) -> BufferedReader:
        """Open a shard's file, fetched first where it lies elsewhere."""
        return self._place.open(self.manifest.shards[number])

    def shard(self, number: int) -> OpenShard:
        """Open a shard, or return it if it is open.

        Raises:
            DamageError: it is damaged or cannot be had; it is not tried again.
        """
        shard = self._open.get(number)
        if shard is not None:
            return shard
        with self._lock:
            if number in self._broken:
                raise DamageError(self._broken[number])
            if number not in self._open:
                entry = self.manifest.shards[number]
                try:
                    self._open[number] = self._open_shard(entry)
                except DataError as error:
                    self._broken[number] = Fault(entry.url, str(error))
                    raise DamageError(self._broken[number]) from None
                if len(self._open) > self._limit:
                    self._open.popitem(last=False)
            return self._open[number]

    def _open_shard(self, entry: Shard) -> OpenShard:
        index = self._index(entry)
        with self._place.open(entry) as file:
            tar = HeldFile(file)
        return OpenShard(
            tar=tar,
            index=index,
            starts=index["offset"].tolist(),
            sizes=index["size"].tolist(),
            labels=index["label"].tolist(),
            checksums=index["crc32"].tolist(),
        )

    def _index(self, entry: Shard) -> Index:
        path = self._place.index(entry)
        rows = load_index(path, self.manifest.fields)
        if len(rows) != entry.count:
            raise DataError(f"{path}: {len(rows)} samples, the manifest says {entry.count}")
        labels, histogram = rows["label"], entry.class_histogram
        inside = labels[labels >= 0]
        found = np.bincount(inside, minlength=len(histogram)).tolist()
        if found != histogram:
            raise DataError(f"{path}: classes {found}, the manifest says {histogram}")
        return rows

    def _damaged(self, location: Location, why: str) -> DamageError:
        fault = Fault(self.manifest.shards[location.shard].url, why, location.row)
        return DamageError(fault, f" (see: bigtrain data verify --deep {self._place.name})")
