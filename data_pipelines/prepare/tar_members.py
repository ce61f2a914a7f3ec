"""The members of tars, found by their headers: links, tars behind one another, compressed and damaged ones."""

import bz2
import gzip
import lzma
import os
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NamedTuple

import pyarrow

from data_pipelines.content import LFS_POINTER, archive_format
from data_pipelines.errors import DataError
from data_pipelines.prepare.links import resolved
from data_pipelines.prepare.listing import SYSTEM
from data_pipelines.prepare.names import in_common_form, is_system_file
from data_pipelines.prepare.place import OpenFile, Place
from data_pipelines.source import LeftAside, Lost, Span
from data_pipelines.tar_parts import parts_of

_CHUNK = 1 << 20
_PACKED = {"gzip", "bzip2", "xz", "zstd", "lz4"}
TAR_SUFFIXES = (
    ".tar",
    ".tgz",
    ".tbz",
    ".tbz2",
    ".txz",
    ".tzst",
    ".tar.gz",
    ".tar.bz2",
    ".tar.xz",
    ".tar.zst",
    ".tar.lz4",
)


class Member(NamedTuple):
    """A file in a tar.

    Attributes:
        name: in the common form.
        where: it lies; `Lost` where it cannot be read.
        part: number of the tar, where several follow one another in one file: each has names of its own.
    """

    name: str
    where: Span | Lost
    part: int = 0


@dataclass(frozen=True)
class OpenTar:
    """A tar that can be read in any order.

    Attributes:
        path: of the file that the user has.
        held: the file, opened, and unpacked if that is compressed.
        unpacked: whether that is another file than that of the path.
        folders: names of those that have been found in it.
    """

    path: str
    held: OpenFile
    unpacked: bool
    folders: set[str] = field(default_factory=set)

    def read(self, span: Span, size: int | None = None) -> bytes:
        """Return the first bytes of a span, or all."""
        return os.pread(self.held.file.fileno(), span.size if size is None else min(size, span.size), span.offset)


def is_tar_name(name: str) -> bool:
    """Tell by its name whether a file is a tar, compressed or not."""
    return name.lower().endswith(TAR_SUFFIXES)


def open_tar(path: Path, place: Place) -> OpenTar:
    """Open a tar; if it is compressed, whatever its name says, unpack it into a file that is gone when it is closed.

    Raises:
        DataError: it cannot be read, is no tar, or there is no room to unpack it.
    """
    try:
        held = OpenFile(path.open("rb"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    file = held.file
    head = file.read(tarfile.BLOCKSIZE)
    file.seek(0)
    if head.startswith(LFS_POINTER):
        raise DataError(f"{path}: is a pointer of Git LFS, not the file itself; git lfs pull fetches it")
    packing = archive_format(head)
    if packing not in _PACKED:
        return OpenTar(str(path), held, False)
    out = place.scratch_file()
    _unpack(path, packing, file, out.file)
    return OpenTar(str(path), out, True)


def _unpack(path: Path, packing: str, file: IO[bytes], out: IO[bytes]) -> None:
    """Unpack a file; what is damaged is unpacked as far as it goes, and its tar then ends too early."""
    try:
        shutil.copyfileobj(_unpacking(packing, file), out, _CHUNK)
    except (EOFError, lzma.LZMAError, zlib.error, pyarrow.ArrowException, OSError) as error:
        no_room = isinstance(error, OSError) and error.errno is not None  # damaged content has no number
        if out.tell() == 0 or no_room:
            raise DataError(
                f"{path}: is compressed ({packing}) and cannot be unpacked ({error}); unpack it by hand, and prepare "
                "the folder or the plain tar"
            ) from None
    out.flush()


def _unpacking(packing: str, file: IO[bytes]) -> Any:
    if packing == "gzip":
        return gzip.open(file)
    if packing == "bzip2":
        return bz2.open(file)
    if packing == "xz":
        return lzma.open(file)
    return pyarrow.CompressedInputStream(pyarrow.PythonFile(file, "r"), packing)


def members_of(
    tar: OpenTar, aside: LeftAside, *, start: int = 0, end: int | None = None, encoding: str | None = None
) -> list[Member]:
    """Return the files in a tar, in its order.

    Where it is damaged, a member that is lost says so: `tarfile` alone would just end. Tars that lie behind one another
    in one file are read one after the other; zeros behind the end are none. Links show what they lead to.

    Args:
        tar: opened.
        aside: counts what is no data.
        start: first byte of the tar in the file.
        end: byte behind it; None: the end of the file.
        encoding: of names; None: UTF-8.
    """
    file = tar.held.file if start == 0 and end is None else _Window(tar.held.file, start, end)
    found: list[Member] = []
    for part, (headers, read_to, problem) in enumerate(parts_of(file, encoding)):
        found_folders = (in_common_form(one.name) for one in headers if one.isdir())
        tar.folders.update(name for name in found_folders if not is_system_file(f"{name}/x"))
        if headers or part == 0:
            found += _members_of_part(tar.path, headers, start, part, aside)
        if problem:
            detail = f"the bytes from {read_to} on are not part of a tar" if part and not headers else problem
            found.append(Member(f"byte {start + read_to}", Lost(tar.path, "damaged", detail), part))
    return found


def _members_of_part(
    path: str, headers: list[tarfile.TarInfo], start: int, part: int, aside: LeftAside
) -> Iterator[Member]:
    """Iterate over the files of one tar, in its order; links show what they lead to."""
    names = [in_common_form(header.name) for header in headers]
    places: dict[str, Span | Lost] = {}
    links: dict[str, str] = {}
    for name, header in zip(names, headers, strict=True):
        if header.isfile() and not header.issparse():
            places[name] = Span(path, start + header.offset_data, header.size)
        elif header.islnk() or header.issym():
            links[name] = header.linkname
    hard = frozenset(name for name, header in zip(names, headers, strict=True) if header.islnk())
    shown = {name: (target, found) for name, target, found in resolved(links, places, absolute=hard)}
    for name, header in zip(names, headers, strict=True):
        if header.isdir():
            continue
        if is_system_file(name):
            aside.add(SYSTEM, name)
        elif name in links and not header.isfile():
            target, found = shown[name]
            lost = Lost(path, "missing", f"a link to {target}, which is not in the tar")
            yield from (Member(one, where, part) for one, where in found or [(name, lost)])
        elif header.issparse():
            yield Member(name, Lost(path, "format", "a sparse member, which cannot be read in place"), part)
        elif header.isfile():
            yield Member(name, Span(path, start + header.offset_data, header.size), part)
        else:
            aside.add("no regular file", name)


class _Window:
    """A part of a file, as a file of its own."""

    def __init__(self, file: IO[bytes], start: int, end: int | None) -> None:
        self._file, self._start, self._end = file, start, end

    def seek(self, place: int) -> int:
        return self._file.seek(self._start + place) - self._start

    def tell(self) -> int:
        return self._file.tell() - self._start

    def read(self, size: int = -1) -> bytes:
        left = None if self._end is None else max(0, self._end - self._file.tell())
        return self._file.read(size if left is None else left if size < 0 else min(size, left))
