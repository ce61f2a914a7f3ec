"""Packages of Debian: fetched and read, not installed."""

import lzma
import tarfile
from pathlib import Path, PurePosixPath

from data_pipelines.errors import DataError
from data_pipelines.files import atomic_write
from data_pipelines.prepare.fetch import Archive
from data_pipelines.source import Span

POOL = "http://deb.debian.org/debian/pool/main"

_HEADER = 60
"""Bytes before each member of an `ar` archive."""


def files_of(package: Archive, cache: Path) -> dict[str, Span]:
    """Return where each file of a package lies, by its path in the package.

    The package, and the tar in it without its compression, are kept in `cache`.

    Raises:
        DataError: it cannot be fetched, or is no package.
    """
    file = package.fetched(cache)
    laid_out = file.with_name(f"{file.stem}.{package.sha256[:12]}.tar")
    try:
        if not laid_out.is_file():
            content = lzma.decompress(member_of(file, "data.tar.xz"))
            with atomic_write(laid_out) as target:
                target.write(content)
        with tarfile.open(laid_out, "r:") as archive:
            return {
                str(PurePosixPath(entry.name)): Span(str(laid_out), entry.offset_data, entry.size)
                for entry in archive
                if entry.isfile()
            }
    except (tarfile.TarError, lzma.LZMAError, EOFError, ValueError) as error:
        raise DataError(f"{file}: cannot be read as a Debian package ({error})") from None


def member_of(package: Path, prefix: str) -> bytes:
    """Return the first member of an `ar` archive whose name begins with a prefix.

    Raises:
        ValueError: there is none.
    """
    content = package.read_bytes()
    position = len(b"!<arch>\n")
    while position + _HEADER <= len(content):
        name, size = content[position : position + 16], int(content[position + 48 : position + 58])
        start = position + _HEADER
        if name.decode("ascii", "replace").startswith(prefix):
            return content[start : start + size]
        position = start + size + size % 2
    raise ValueError(f"no member {prefix}*")
