"""Read samples of local shards by (shard, row), each checked against its checksum."""

import mmap
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_pipelines.codec import Pixels
from data_pipelines.decode import decode
from data_pipelines.errors import DataError
from data_pipelines.index import Index, load_index
from data_pipelines.manifest import Manifest
from data_pipelines.order import Location

Labels = NDArray[np.int64]


class ShardDataset:
    """The samples of a dataset folder.

    Files are opened when first read, in the process that reads them, so that the object can cross a fork.

    Args:
        folder: with a manifest, shards and their indexes.

    Raises:
        DataError: the folder's files do not fit its manifest.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.manifest = Manifest.load(self.folder)
        for shard in self.manifest.shards:
            check_size(self.folder / shard.url, shard.bytes)
        self._tars: dict[int, mmap.mmap] = {}
        self._indexes: dict[int, Index] = {}

    def locations(self) -> Iterator[Location]:
        """Iterate over all samples as they lie in the shards."""
        for number, shard in enumerate(self.manifest.shards):
            for row in range(shard.count):
                yield Location(number, row)

    def label(self, location: Location) -> int:
        """Return a sample's class index (-1 if unlabelled)."""
        return int(self._index(location.shard)[location.row]["label"])

    def read_raw(self, location: Location) -> tuple[memoryview, int]:
        """Return a sample's file, unchecked, and its class index."""
        row = self._index(location.shard)[location.row]
        start = int(row["offset"])
        return memoryview(self._tar(location.shard))[start : start + int(row["size"])], int(row["label"])

    def read(self, locations: Sequence[Location]) -> tuple[Pixels, Labels]:
        """Read and decode samples.

        Returns:
            Images, uint8, shape [N, C, H, W], and class indices, int64, shape [N] (-1 where unlabelled).

        Raises:
            DataError: a sample's bytes do not fit their checksum, or cannot be decoded.
        """
        images = np.empty((len(locations), *self.manifest.shape), dtype=np.uint8)
        labels = np.empty(len(locations), dtype=np.int64)
        for slot, location in enumerate(locations):
            data, labels[slot] = self.read_raw(location)
            if zlib.crc32(data) != int(self._index(location.shard)[location.row]["crc32"]):
                raise self._damaged(location, "its bytes do not match their checksum")
            try:
                decode(data, self.manifest.codec, images[slot])
            except ValueError as error:
                raise self._damaged(location, str(error)) from None
        return images, labels

    def _tar(self, shard: int) -> mmap.mmap:
        if shard not in self._tars:
            with (self.folder / self.manifest.shards[shard].url).open("rb") as file:
                self._tars[shard] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return self._tars[shard]

    def _index(self, shard: int) -> Index:
        if shard not in self._indexes:
            entry = self.manifest.shards[shard]
            rows = load_index(self.folder / entry.index, self.manifest.fields)
            if len(rows) != entry.count:
                raise DataError(f"{self.folder / entry.index}: {len(rows)} samples, the manifest says {entry.count}")
            self._indexes[shard] = rows
        return self._indexes[shard]

    def _damaged(self, location: Location, why: str) -> DataError:
        path = self.folder / self.manifest.shards[location.shard].url
        return DataError(f"{path}: sample {location.row}: {why} (see: bigtrain data verify --deep {self.folder})")


def check_size(path: Path, expected: int) -> None:
    """Raise DataError if the file `path` is missing or not `expected` bytes long."""
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        raise DataError(f"{path}: the shard is missing, the manifest lists it") from None
    if size != expected:
        raise DataError(f"{path}: {size} bytes, the manifest says {expected} (see: bigtrain data verify {path.parent})")
