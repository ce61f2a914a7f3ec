"""Get a file from the network, checked against its SHA-256."""

import gzip
import hashlib
import shutil
import urllib.request
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from data_pipelines.errors import DataError
from data_pipelines.files import atomic_write, in_home, sha256_of


class Archive(NamedTuple):
    """A file in the network that never changes.

    Attributes:
        url: of the file.
        sha256: of its content.
    """

    url: str
    sha256: str

    @property
    def name(self) -> str:
        """Name of the file."""
        return PurePosixPath(self.url).name

    def fetched(self, cache: Path) -> Path:
        """Return its path in the folder `cache`, which it is downloaded to unless it is there already.

        Raises:
            DataError: no connection, or another content than expected.
        """
        return fetch(self.url, in_home(cache) / self.name, self.sha256)


def fetch_gzip(url: str, path: Path, content_sha256: str) -> Path:
    """Download the gzip file `url` to `path` unless it is there already, and check it.

    The checksum is of the decompressed content, so that mirrors may compress as they like.

    Raises:
        DataError: no connection, or another content than expected.
    """
    _download(url, path)
    check_gzip(path, content_sha256)
    return path


def fetch(url: str, path: Path, sha256: str) -> Path:
    """Download the file `url` to `path` unless it is there already, and check it.

    Raises:
        DataError: no connection, or another content than expected.
    """
    _download(url, path)
    if (found := sha256_of(path)) != sha256:
        raise DataError(f"{path}: has sha256 {found}, expected {sha256}; remove it and try again")
    return path


def _download(url: str, path: Path) -> None:
    if path.is_file():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with urllib.request.urlopen(url, timeout=60) as response, atomic_write(path) as file:  # noqa: S310 - our URLs
            shutil.copyfileobj(response, file)
    except OSError as error:
        raise DataError(f"{url}: cannot be downloaded ({error}); put the file at {path} by hand to continue") from None


def check_gzip(path: Path, content_sha256: str) -> None:
    """Raise DataError unless the gzip file `path` decompresses to content with this SHA-256."""
    try:
        with gzip.open(path) as content:
            found = hashlib.file_digest(content, "sha256").hexdigest()
    except (OSError, EOFError) as error:
        raise DataError(f"{path}: not a complete gzip file ({error}); remove it and try again") from None
    if found != content_sha256:
        raise DataError(f"{path}: its content has sha256 {found}, expected {content_sha256}; remove it and try again")
