"""Where samples come from: a list of them, not read yet, and a reader that finds their bytes."""

import errno
import hashlib
import os
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from data_pipelines.codec import Pixels
from data_pipelines.errors import DataError
from data_pipelines.fields.spec import FieldSpec
from data_pipelines.protocol import ImageProtocol, Rejected

_NAMED = 3
LARGEST_FILE = 2**30
"""Bytes; a larger file is no image, and is not read."""


class Lost(NamedTuple):
    """What is listed in a source and cannot be read: the reason and the detail of its rejection.

    Attributes:
        path: of the file that it should be in.
        reason: see `Rejected`.
        detail: what was found.
    """

    path: str
    reason: str
    detail: str


class Span(NamedTuple):
    """Bytes inside a file."""

    path: str
    offset: int
    size: int


class Half(NamedTuple):
    """The left or the right half of an image file."""

    name: str
    right: bool


class Row(NamedTuple):
    """A row of a named array."""

    array: str
    number: int


class Excerpt(NamedTuple):
    """A part of a recording: where that is, and the number of the part."""

    where: str | Span | Row
    number: int


Where = str | int | Span | Half | Row | Excerpt | Lost
"""What a reader needs to find something: a name, a number, a span, half an image, a row of an array, an excerpt."""


@dataclass
class LeftAside:
    """The files of a source that are part of no sample: how many for which reason, and the first three of each."""

    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, list[str]] = field(default_factory=dict)

    def add(self, why: str, name: str) -> None:
        """Count a file."""
        self.counts[why] += 1
        names = self.first.setdefault(why, [])
        if len(names) < _NAMED:
            names.append(name)

    @property
    def total(self) -> int:
        """Number of all files."""
        return self.counts.total()

    @property
    def words(self) -> str:
        """All that there is to tell, in one line."""
        parts = []
        for why, count in self.counts.items():
            more = ", …" if count > len(self.first[why]) else ""
            parts.append(f"{count} {why} ({', '.join(self.first[why])}{more})")
        return "; ".join(parts)


class Item(NamedTuple):
    """One sample of a source, not read yet.

    Attributes:
        name: what people call it, for the list of rejected samples.
        where: what the reader needs to find the source's first field, such as the image.
        label: class index, -1 if unlabelled.
        fields: the others, and further members, by name: where they are, or the content itself.
    """

    name: str
    where: Where
    label: int = -1
    fields: Mapping[str, Where | bytes] = {}


class Reader(Protocol):
    """Finds the content of items; crosses to other processes by pickle, and opens its files there."""

    def read(self, where: Any) -> bytes | NDArray[Any]:
        """Return a file's content, or an array; of an image, pixels: uint8, [C, H, W].

        Raises:
            Rejected: there is nothing to be read.
        """


@dataclass(frozen=True)
class Source:
    """Samples to be written, and what is known of them.

    Attributes:
        name: of the set.
        items: its samples.
        reader: finds them.
        classes: names of the classes; empty if unlabelled.
        licence: of the images.
        origin: where they came from.
        images: names of the fields that are images, which a protocol brings to one size.
        fields: those of other kinds.
        members: file extensions of what is kept besides fields and classes.
        usual: the protocol that fits these images where the user names none; None: they have no size of their own.
        words: what is done to samples besides the protocol of their images, for the manifest.
        stamp: changes when the source's files change.
        left_aside: the files that are part of no sample.
        notes: what else people should know of how it was understood, a sentence each.
        spans: whether the items are members of tars that can be indexed in place.
    """

    name: str
    items: Sequence[Item] = field(repr=False)
    reader: Reader
    classes: tuple[str, ...]
    licence: str
    origin: str
    images: tuple[str, ...] = ("image",)
    fields: Mapping[str, FieldSpec] = field(default_factory=dict)
    members: tuple[str, ...] = ()
    usual: ImageProtocol | None = None
    words: str = ""
    stamp: str = ""
    left_aside: LeftAside = field(default_factory=LeftAside, repr=False)
    notes: tuple[str, ...] = ()
    spans: bool = False

    @property
    def first(self) -> str:
        """Name of the field that `where` of the items leads to."""
        return (*self.images, *self.fields)[0]

    @property
    def fingerprint(self) -> str:
        """A hash of all that would change what is written."""
        digest = hashlib.sha256()
        about = (self.name, self.classes, self.licence, self.origin, self.stamp, self.spans)
        digest.update(repr((self.images, self.fields, self.members)).encode())
        digest.update(repr(about).encode())
        for item in self.items:
            digest.update(repr(item).encode("utf-8", "surrogateescape"))
        return digest.hexdigest()

    def read(self, where: Where) -> bytes | NDArray[Any]:
        """Return the content of a field of an item.

        Raises:
            Rejected: it cannot be read.
        """
        return read_from(self.reader, where)

    def shuffled(self, seed: int) -> "Source":
        """Return the same samples in another order, a pure function of `seed`."""
        bits = np.random.Philox(key=np.array([seed, 0], dtype=np.uint64)).random_raw(len(self.items))
        return replace(self, items=[self.items[place] for place in np.argsort(bits, kind="stable")])

    def split(self, count: int) -> tuple["Source", "Source"]:
        """Return the first `count` samples, and the rest."""
        return replace(self, items=self.items[:count]), replace(self, items=self.items[count:])


def read_from(reader: Reader, where: Where) -> bytes | NDArray[Any]:
    """Return what a reader finds; what is known to be lost is rejected.

    Raises:
        Rejected: it cannot be read.
    """
    if isinstance(where, Lost):
        raise Rejected(where.reason, where.detail)
    return reader.read(where)


@dataclass(frozen=True)
class ArrayReader:
    """Images in memory, found by number.

    Attributes:
        images: uint8, shape [N, C, H, W].
    """

    images: Pixels = field(repr=False)

    def read(self, where: int) -> Pixels:
        """Return image number `where`."""
        image: Pixels = self.images[where]
        return image


@dataclass(frozen=True)
class RowReader:
    """Several arrays in memory, found by their name and a number.

    Attributes:
        arrays: each of shape [N, ...].
    """

    arrays: Mapping[str, NDArray[Any]] = field(repr=False)

    def read(self, where: Row) -> NDArray[Any]:
        """Return a row."""
        row: NDArray[Any] = self.arrays[where.array][where.number, ...]
        return row


@dataclass(frozen=True)
class FileReader:
    """Files, found by their path relative to a folder."""

    folder: Path

    def read(self, where: str) -> bytes:
        """Return the content of a file."""
        path = self.folder / where
        try:
            check_file_size(path.stat().st_size)
            return path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            raise Rejected("missing", _why_missing(path)) from None
        except (PermissionError, IsADirectoryError) as error:
            raise Rejected("unreadable", str(error.strerror)) from None
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise Rejected("missing", "a link that points to itself") from None
            # A disk or network that fails now may work later: this is not the image's fault.
            raise DataError(f"{path}: cannot be read ({error}); run the same command again to continue") from None


def _why_missing(path: Path) -> str:
    return f"a link to {path.readlink()}, which does not exist" if path.is_symlink() else "no such file"


@dataclass(frozen=True)
class ZipReader:
    """Members of a zip, found by name.

    Attributes:
        path: of the zip.
        encoding: of names that are not said to be UTF-8; None: as the standard says.
    """

    path: Path
    encoding: str | None = None

    def read(self, where: str) -> bytes:
        """Return the content of a member."""
        try:
            check_file_size(self._zip.getinfo(where).file_size)
            return self._zip.read(where)
        except KeyError:
            raise Rejected("missing", "no such member of the zip") from None
        except Rejected:
            raise
        except Exception as error:  # zlib.error, BadZipFile, EOFError, NotImplementedError, RuntimeError (encrypted)
            raise Rejected("unreadable", f"{type(error).__name__}: {error}") from None

    @cached_property
    def _zip(self) -> zipfile.ZipFile:
        return zipfile.ZipFile(self.path, metadata_encoding=self.encoding)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the open file behind: processes that share one read garbage."""
        return {"path": self.path, "encoding": self.encoding}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Open anew when first read."""
        self.__dict__.update(state)


@dataclass(frozen=True)
class SpanReader:
    """Members of tars, found by their place.

    Attributes:
        unpacked: for tars that are compressed, and for other files whose content was laid out anew: the path of
            the file that the spans lie in, by the path of theirs.
        keep: what must live as long as this reader does in the process that made it.
    """

    unpacked: Mapping[str, str] = field(default_factory=dict)
    keep: tuple[Any, ...] = field(default=(), repr=False, compare=False)

    def read(self, where: Span) -> bytes:
        """Return the bytes of a span."""
        check_file_size(where.size)
        with Path(self.unpacked.get(where.path, where.path)).open("rb", buffering=0) as file:
            data = os.pread(file.fileno(), where.size, where.offset)
        if len(data) != where.size:
            raise Rejected("damaged", f"the tar ends after {len(data)} of {where.size} bytes")
        return data

    def __getstate__(self) -> dict[str, Any]:
        """Leave the open files behind; their owner holds them."""
        return {"unpacked": self.unpacked, "keep": ()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Read what the owner holds."""
        self.__dict__.update(state)


def check_file_size(size: int) -> None:
    """Reject a file that is too large to be read."""
    if size > LARGEST_FILE:
        raise Rejected("bomb", f"a file of {size} bytes, the limit is {LARGEST_FILE}")
