"""Where the files of a dataset lie: in a folder of this machine, or elsewhere, to be fetched."""

import fcntl
import hashlib
import stat
import zlib
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from urllib.parse import urlsplit

from data_pipelines.errors import DataError
from data_pipelines.files import atomic_write
from data_pipelines.manifest import FILE_NAME, Manifest, tables_of
from data_pipelines.remote import is_remote
from data_pipelines.shard_cache import ShardCache, default_folder
from data_pipelines.shard_table import Shard
from data_pipelines.staging import staged_copy

_CACHE_BYTES = 100 * 2**30
_LARGEST_MANIFEST = 2**30
"""Bytes; 10,000 shards of 1,000 classes have 40 MB."""
_LARGEST_TABLE = 2**32
_LOCKS = 16
"""Indexes that the processes of a node may fetch at the same time."""
_INDEX_HEADER = 2**16
"""Bytes that a NumPy file has before its rows, at most."""


@dataclass(frozen=True)
class Place:
    """A dataset's place.

    Attributes:
        name: as the user gave it.
        folder: on this machine, with the manifest; of a set from elsewhere, a copy in the cache; of one that was
            staged, the copy on this node's disk.
        base: URL that names in the manifest are relative to; empty for a set on this machine.
        cache: for what must be fetched.
        manifest: of the set.
    """

    name: str
    folder: Path
    base: str
    cache: ShardCache
    manifest: Manifest

    @classmethod
    def find(cls, place: str | Path, cache: ShardCache | None = None) -> "Place":
        """Find a dataset by its folder or URL (of the folder, or of the manifest in it).

        Raises:
            DataError: its manifest cannot be fetched.
        """
        cache = cache or ShardCache(default_folder(), _CACHE_BYTES)
        name = str(place)
        if not is_remote(name):
            folder = staged_copy(Path(place))
            return cls(name, folder, "", cache, Manifest.load(folder))
        if name.startswith("pipe:"):
            raise DataError(f"{name}: a manifest comes from a folder, http(s):// or s3://; only shards may be pipes")
        base = name.removesuffix(FILE_NAME).rstrip("/")
        content = cache.read_small(f"{base}/{FILE_NAME}", _LARGEST_MANIFEST)
        folder = cache.folder / "sets" / hashlib.sha256(content).hexdigest()
        folder.mkdir(parents=True, exist_ok=True)
        for table in tables_of(content):
            if not (folder / table).is_file():
                with atomic_write(folder / table) as file:
                    file.write(cache.read_small(f"{base}/{table}", _LARGEST_TABLE))
        with atomic_write(folder / FILE_NAME) as file:
            file.write(content)
        try:
            manifest = Manifest.load(folder)
        except DataError:
            for table in tables_of(content):  # damaged on the way: they are fetched again
                (folder / table).unlink(missing_ok=True)
            raise
        for url in manifest.urls:
            if url.startswith(("/", "pipe:")):
                raise DataError(f"{name}: its shard {url!r} would read this machine's files or run a command")
            if is_remote(url) and urlsplit(url)[:2] != urlsplit(base)[:2]:
                raise DataError(
                    f"{name}: its shard {url!r} is on another server, to which this machine would send requests: "
                    f"if that is intended, copy {FILE_NAME} and the indexes to a folder, and read the dataset from "
                    f"there"
                )
        return cls(name, folder, base, cache, manifest)

    @property
    def holds_all(self) -> bool:
        """Whether all shards lie on this machine."""
        return not self.base and not any(map(is_remote, self.manifest.urls))

    def check(self, shard: Shard) -> None:
        """Raise DataError if a local shard is missing, no regular file, or not as long as it should be."""
        path = self._path(shard)
        if path is not None:
            try:
                status = path.stat()
            except FileNotFoundError:
                raise DataError(f"{path}: the shard is missing, but the manifest lists it") from None
            if not stat.S_ISREG(status.st_mode):  # a device or a pipe might be read without end
                raise DataError(f"{path}: the manifest lists it as a shard, but it is not a regular file")
            if status.st_size != shard.bytes:
                sizes = f"{status.st_size} bytes, the manifest says {shard.bytes}"
                raise DataError(f"{path}: {sizes} (see: bigtrain data verify {self.name})")

    def open(self, shard: Shard) -> BufferedReader:
        """Open a shard's tar, fetched first where it lies elsewhere.

        Raises:
            DataError: it is missing, of another length, or cannot be fetched.
        """
        self.check(shard)
        path = self._path(shard)
        if path is not None:
            return path.open("rb")
        url = shard.url if is_remote(shard.url) else f"{self.base}/{shard.url}"
        return self.cache.open(url, shard.bytes, shard.sha256)

    def index(self, shard: Shard, row_bytes: int) -> Path:
        """Return a shard's index file, of rows of so many bytes; fetched first where the manifest lies elsewhere."""
        path = self.folder / shard.index
        if self.base and not path.is_file():
            size = _INDEX_HEADER + shard.count * row_bytes
            # The ranks of a node want the same one in the same moment: one fetches it, and others at once other ones.
            with (self.folder / f".index{zlib.crc32(shard.index.encode()) % _LOCKS}.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not path.is_file():
                    content = self.cache.read_small(f"{self.base}/{shard.index}", size, shard.index_sha256)
                    with atomic_write(path) as file:
                        file.write(content)
        return path

    def _path(self, shard: Shard) -> Path | None:
        """Return a shard's file on this machine; None if it must be fetched."""
        return None if self.base else shard.path(self.folder)
