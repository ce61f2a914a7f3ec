"""A bounded folder of fetched files, which all processes of a node share.

A file lies under its SHA-256, so that it is either not there or right. Locks are those of the files themselves, and
end with the process that holds them, however it ends: who fetches holds the unfinished file exclusively, who reads
holds a share of the finished one, and only what nobody holds is removed, the least recently opened first.
"""

import errno
import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

from data_pipelines.faults import FaultLog
from data_pipelines.files import in_home
from data_pipelines.remote import (
    FetchError,
    FinalFetchError,
    RetryPolicy,
    WrongContentError,
    chunks_of,
    with_retries,
)

_POLL_SECONDS = 0.05


def default_folder() -> Path:
    """Return `shards` in `$BIGTRAIN_CACHE`, or in `~/.cache/bigtrain`."""
    return in_home(os.environ.get("BIGTRAIN_CACHE", "~/.cache/bigtrain")) / "shards"


class ShardCache:
    """Fetches files once a node, and keeps as many as fit.

    Args:
        folder: where; on a disk of the node.
        max_bytes: what all files together may take.
        retry: with servers.
        faults: where retries are counted.

    Attributes:
        give_way: closes the file of this process that was opened first, where there is no room for another one; False
            if it has none. It is called while the folder is locked, and must wait for nothing.
    """

    def __init__(
        self, folder: Path, max_bytes: int, *, retry: RetryPolicy | None = None, faults: FaultLog | None = None
    ) -> None:
        self.folder, self.max_bytes = folder, max_bytes
        self.retry, self.faults = retry or RetryPolicy(), faults or FaultLog()
        self.give_way: Callable[[], bool] = lambda: False

    def open(self, url: str, size: int, sha256: str) -> BufferedReader:
        """Open a file, fetched first unless it is there; it stays while it is open.

        Args:
            url: where it comes from.
            size: in bytes.
            sha256: of its content; anything else that the server sends is an error.

        Raises:
            DataError: it cannot be had.
        """
        path = self.folder / f"{sha256}.tar"
        while (file := _open_shared(path)) is None:
            with_retries(lambda: self._fetch(url, path, size, sha256), url, self.retry, self.faults)
        os.utime(path)  # the least recently opened is removed first
        return file

    def read_small(self, url: str, limit: int, sha256: str = "") -> bytes:
        """Fetch a small file, which is not kept.

        Args:
            url: where it comes from.
            limit: bytes that it may have.
            sha256: of its content; empty if that is not known.

        Raises:
            DataError: it cannot be had, is larger, or is another file.
        """
        return with_retries(lambda: self._small(url, limit, sha256), url, self.retry, self.faults)

    def _small(self, url: str, limit: int, sha256: str) -> bytes:
        content = bytearray()
        for chunk in chunks_of(url, self.retry):
            content += chunk
            if len(content) > limit:
                raise FinalFetchError(f"{url}: more than {limit} bytes were received")
        if sha256 and hashlib.sha256(content).hexdigest() != sha256:
            raise _other_content(url)
        return bytes(content)

    def _fetch(self, url: str, path: Path, size: int, sha256: str) -> None:
        """Fetch a file, unless another process does so, which is waited for."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(".partial")
            with _locked(partial) as file:
                try:
                    if not path.is_file():
                        self._reserve(partial, file, size)
                        _receive(url, chunks_of(url, self.retry), file, size, sha256)
                        partial.rename(path)
                finally:
                    if not _is_still(path, file):
                        partial.unlink(missing_ok=True)
        except OSError as error:
            raise FetchError(f"{self.folder}: cannot keep {url} ({error.strerror or error})") from None

    def _reserve(self, partial: Path, file: BinaryIO, size: int) -> None:
        """Make room for a file and take it, so that what is on its way to the cache counts already."""
        with _locked(self.folder / "cache.lock"):
            while not self._find_room(partial, file, size):
                if not self.give_way():
                    raise FetchError(
                        f"{self.folder}: no space for {size:,} bytes: the disk or the cache's {self.max_bytes:,} bytes "
                        "are full, and all of its files are in use (make the cache larger, or the data's window "
                        "smaller)"
                    )

    def _find_room(self, partial: Path, file: BinaryIO, size: int) -> bool:
        """Remove what nobody holds, the oldest first, until there is room for a file, and take it; False: no room."""
        entries = self._entries(except_for=partial)
        used = sum(status.st_size for _, status in entries)
        while used + size > self.max_bytes or not _allocate(file, size):
            removed = self._remove_oldest(entries)
            if removed is None:
                return False
            used -= removed
        return True

    def _entries(self, except_for: Path) -> list[tuple[Path, os.stat_result]]:
        """Return the files of the cache, the most recently opened first."""
        found = []
        for path in self.folder.iterdir():
            if path.suffix in (".tar", ".partial") and path != except_for:
                try:
                    found.append((path, path.stat()))
                except FileNotFoundError:
                    continue  # just renamed: its new name may or may not have come up
        return sorted(found, key=lambda entry: -entry[1].st_mtime)

    @staticmethod
    def _remove_oldest(entries: list[tuple[Path, os.stat_result]]) -> int | None:
        """Remove the oldest of `entries` that nobody holds; return its size, or None if all are held."""
        while entries:
            path, status = entries.pop()
            if _remove_unless_held(path):
                return status.st_size
        return None


def _receive(url: str, chunks: Iterator[bytes], file: BinaryIO, size: int, sha256: str) -> None:
    """Write what comes to `file`; FetchError if it is not what was expected."""
    digest, received = hashlib.sha256(), 0
    for chunk in chunks:
        digest.update(chunk)
        received += len(chunk)
        if received > size:
            raise WrongContentError(f"{url}: more than {size} bytes were received")
        file.write(chunk)
    file.flush()
    if received < size:
        raise WrongContentError(f"{url}: {received} of {size} bytes were received")
    if digest.hexdigest() != sha256:
        raise _other_content(url)


def _other_content(url: str) -> WrongContentError:
    return WrongContentError(f"{url}: damaged in transit, or not the file that the manifest lists (its sha256 differs)")


def _open_shared(path: Path) -> BufferedReader | None:
    """Open a file of the cache and hold it; None if it is not there."""
    while True:
        try:
            file = path.open("rb")
        except FileNotFoundError:
            return None
        fcntl.flock(file, fcntl.LOCK_SH)
        if _is_still(path, file):
            return file
        file.close()  # removed between the two calls


@contextmanager
def _locked(path: Path) -> Iterator[BinaryIO]:
    """Open `path`, made if need be, held by nobody else; waits for who holds it."""
    while True:
        with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o644), "r+b") as file:
            if _lock(path, file):
                yield file
                return


def _lock(path: Path, file: BinaryIO) -> bool:
    """Hold an open file alone; False if `path` leads to another one, or none, by then.

    It asks again and again: who has fetched the file goes on to read it under its final name, for hours maybe, and
    whoever has opened it before must not wait for that.
    """
    while _is_still(path, file):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_POLL_SECONDS)
        else:
            return _is_still(path, file)
    return False


def _remove_unless_held(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
    except (FileNotFoundError, BlockingIOError):
        return False
    return True


def _is_still(path: Path, file: BinaryIO) -> bool:
    """Tell whether `path` leads to the open `file`, and not to another one, or none, since somebody was faster."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _allocate(file: BinaryIO, size: int) -> bool:
    """Take `size` bytes of the disk for `file`; False if the disk is full."""
    try:
        os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            return False
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
            raise
    return True
