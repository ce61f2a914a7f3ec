"""Tars that lie behind one another in one file, as `cat` makes it."""

import tarfile
from collections.abc import Iterator
from typing import Any, NamedTuple

_CHUNK = 1 << 20


class TarPart(NamedTuple):
    """One tar of a file.

    Attributes:
        headers: of its members.
        end: the byte behind the last one.
        problem: what is wrong there; empty if it ends as it should.
    """

    headers: list[tarfile.TarInfo]
    end: int
    problem: str


def parts_of(file: Any, encoding: str | None = None) -> Iterator[TarPart]:
    """Iterate over the tars in a file; the last one tells where it cannot be read further.

    `tarfile` alone ends in silence at the first end mark, and where a header is damaged.

    Args:
        file: opened for reading.
        encoding: of names; None: UTF-8.
    """
    at: int | None = 0
    while at is not None:
        part = _part(file, at, encoding)
        yield part
        at = None if part.problem else _behind_zeros(file, part.end)


def _part(file: Any, at: int, encoding: str | None) -> TarPart:
    headers: list[tarfile.TarInfo] = []
    end = at
    file.seek(at)
    try:
        with tarfile.open(fileobj=file, mode="r:", encoding=encoding or "utf-8", errors="surrogateescape") as tar:
            for member in tar:
                headers.append(member)
                end = tar.offset
        file.seek(end)
        whole = file.read(tarfile.BLOCKSIZE) == bytes(tarfile.BLOCKSIZE)  # else it was cut between two members
    except tarfile.TarError:
        whole = False
    return TarPart(headers, end, "" if whole else f"the tar cannot be read beyond byte {end}")


def _behind_zeros(file: Any, at: int) -> int | None:
    """Return the beginning of the first block from a byte on that is not all zeros; None: there is none."""
    file.seek(at)
    while chunk := file.read(_CHUNK):
        if rest := chunk.lstrip(b"\0"):
            return int((at + len(chunk) - len(rest)) // tarfile.BLOCKSIZE * tarfile.BLOCKSIZE)
        at += len(chunk)
    return None
