"""Image files in an LMDB database, a value each, as LSUN hands them out."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from data_pipelines.content import HEAD, image_format
from data_pipelines.errors import DataError
from data_pipelines.prepare.files import stamp_of
from data_pipelines.prepare.place import Place
from data_pipelines.protocol import Rejected
from data_pipelines.source import Item, LeftAside, Source, check_file_size

DATA = "data.mdb"


@dataclass(frozen=True)
class LMDBReader:
    """Values of a database, found by their keys in hexadecimal.

    Attributes:
        path: of the database's folder.
    """

    path: str

    def read(self, where: str) -> bytes:
        """Return a value."""
        with self._database.begin(buffers=True) as transaction:
            value = transaction.get(bytes.fromhex(where))
            if value is None:
                raise Rejected("missing", "no such key in the database")
            check_file_size(len(value))
            return bytes(value)

    @cached_property
    def _database(self) -> Any:
        return _open(Path(self.path))

    def __getstate__(self) -> dict[str, Any]:
        """Leave the open database behind: each process opens its own."""
        return {"path": self.path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Open anew when first read."""
        self.__dict__.update(state)


def from_lmdb(place: Place) -> Source:
    """Return the images of a database: every value that is an image's file, in the order of the keys; no classes.

    Raises:
        DataError: no database there, or no images in it.
    """
    place.without_splits()
    path = place.path if place.path.is_dir() else place.path.parent
    items, aside = [], LeftAside()
    with _open(path) as database, database.begin(buffers=True) as transaction, transaction.cursor() as cursor:
        for key, value in cursor:
            name = bytes(key).decode("utf-8", "backslashreplace")
            if image_format(bytes(value[:HEAD])):
                items.append(Item(name, bytes(key).hex()))
            else:
                aside.add("values that are not images", name)
    if not items:
        raise DataError(f"{path}: none of its {aside.total} values is an image file")
    stat = (path / DATA).stat()
    return Source(
        name=path.name.removesuffix("_lmdb"),
        items=items,
        reader=LMDBReader(str(path.resolve())),
        classes=(),
        licence="not stated",
        origin=str(path),
        stamp=stamp_of({DATA: f"{stat.st_size} {stat.st_mtime_ns}"}),
        left_aside=aside,
    )


def _open(path: Path) -> Any:
    try:
        import lmdb
    except ImportError:
        raise DataError(f"{path}: reading LMDB needs the package lmdb (pip install 'bigtrain[lmdb]')") from None
    try:
        return lmdb.open(str(path), readonly=True, lock=False, readahead=False, create=False)
    except lmdb.Error as error:
        raise DataError(f"{path}: not an LMDB database ({error})") from None
