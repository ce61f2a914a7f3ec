"""The one reading of folders and zips: which files there are, under names that all sources share.

What counts is decided here, once, for every command that reads others' images:

- Files of the system (hidden ones, `__MACOSX`, `@eaDir`, `Thumbs.db`, …) are left aside, and counted.
- Names have `/` between folders and composed Unicode, see `in_common_form`; what the file system or the zip calls the
  file is where it is read from.
- Links are followed. One that leads nowhere is listed, and rejected when it is read; one that leads back to a folder
  above is left aside.
- Of two members of one name in a zip, the later one counts, as when it is unpacked.
"""

import contextlib
import os
import stat as file_types
import zipfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from data_pipelines.content import HEAD, image_format
from data_pipelines.errors import DataError
from data_pipelines.prepare.links import resolved
from data_pipelines.prepare.names import (
    first_of,
    in_common_form,
    is_image,
    is_system_file,
    may_be_image,
    stem_of,
    suffix_of,
)
from data_pipelines.protocol import Rejected
from data_pipelines.source import FileReader, LeftAside, Lost, Reader, Where, ZipReader, read_from

SYSTEM = "hidden or of the system"
LATER = "replaced by a later member with the same name"
_UTF_8_NAME = 0x800
_LONGEST_LINK = 4096
"""Bytes of a link's target in a zip: Linux's longest path."""


class File(NamedTuple):
    """A file of a folder or an archive.

    Attributes:
        name: in the common form.
        where: for the reader.
        size: in bytes; -1 if it cannot be told.
        stamp: changes with the content.
    """

    name: str
    where: Where
    size: int
    stamp: str


@dataclass
class Listing:
    """The files of a folder or an archive.

    Attributes:
        path: of the folder or the archive.
        files: those that may be data, by name, sorted.
        folders: names of all folders that may hold data.
        reader: finds their content.
        left_aside: the other files.
        notes: what people should know of how it was read.
    """

    path: Path
    files: dict[str, File]
    folders: set[str]
    reader: Reader
    left_aside: LeftAside = field(default_factory=LeftAside)
    notes: list[str] = field(default_factory=list)

    @property
    def stats(self) -> dict[str, str]:
        """What changes with each file."""
        return {name: file.stamp for name, file in self.files.items()}

    def content(self, name: str) -> bytes:
        """Return the content of a file.

        Raises:
            DataError: it cannot be read.
        """
        try:
            content = read_from(self.reader, self.files[name].where)
        except Rejected as error:
            raise DataError(f"{self.path}: {name} cannot be read ({error.detail})") from None
        assert isinstance(content, bytes)
        return content

    def others(self, used: Collection[str]) -> LeftAside:
        """Return what is left aside if samples are made of some files: those of the system, and all others."""
        first = {why: [*names] for why, names in self.left_aside.first.items()}
        aside = LeftAside(self.left_aside.counts.copy(), first)
        for name in self.files:
            if name not in used:
                suffix = suffix_of(name)
                aside.add(f"{suffix} files" if suffix else "files without an extension that are not images", name)
        return aside

    def images(self) -> list[str]:
        """Return the names of the images: by their extensions, or by their content where these do not tell."""
        return [name for name in self.files if is_image(name) or (may_be_image(name) and self._looks_like_image(name))]

    def _looks_like_image(self, name: str) -> bool:
        where = self.files[name].where
        try:
            if isinstance(self.reader, FileReader) and isinstance(where, str):
                with (self.reader.folder / where).open("rb") as file:
                    return image_format(file.read(HEAD)) is not None
            content = read_from(self.reader, where)
        except (Rejected, OSError):
            return False
        return isinstance(content, bytes) and image_format(content[:HEAD]) is not None


def list_files(path: Path, *, encoding: str | None = None) -> Listing:
    """List a folder or a zip.

    Args:
        path: of the folder or the zip.
        encoding: of names in a zip that are not said to be UTF-8; None: UTF-8 where they are that, else the zip
            standard's (code page 437), and a note says so.

    Raises:
        DataError: it cannot be listed.
    """
    return list_folder(path) if path.is_dir() else list_zip(path, encoding=encoding)


def list_folder(path: Path) -> Listing:
    """List a folder, see the module.

    Raises:
        DataError: it, or a folder in it, cannot be listed.
    """
    listing = Listing(path, {}, set(), FileReader(path))
    found: list[File] = []
    outside, top = [], Path(os.path.realpath(path))
    for one in _walk(path, "", ()):
        _sort_in(listing, found, one)
        if (path / one.name).is_symlink() and not Path(os.path.realpath(path / one.name)).is_relative_to(top):
            outside.append(one.name)
    if outside:
        listing.notes.append(
            f"{len(outside)} links point outside of the folder, and were followed ({first_of(outside)}): if it came "
            f"from somebody else, see what they show before you publish the set"
        )
    found.sort()
    for file in found:
        name = _free(file.name, listing.files)
        listing.files[name] = file if name == file.name else file._replace(name=name)
    if any(name != file.name for name, file in zip(listing.files, found, strict=True)):
        listing.files = dict(sorted(listing.files.items()))
    return listing


def _free(name: str, files: dict[str, File]) -> str:
    """Return a name for a file whose own is taken: two forms of one name lie side by side, and both are data."""
    stem, suffix, number = stem_of(name), suffix_of(name), 2
    while name in files:
        name, number = f"{stem} ({number}){suffix}", number + 1
    return name


class _Seen(NamedTuple):
    """What a walk comes by: a file, a folder, or something that is neither (then `why` tells)."""

    name: str
    size: int
    stamp: str
    folder: bool = False
    why: str = ""


def _walk(top: Path, prefix: str, above: tuple[tuple[int, int], ...]) -> Iterator[_Seen]:
    """Iterate over all that is below a folder, in the order of the names."""
    try:
        stat = (top / prefix).stat()
        entries = sorted(os.scandir(str(top / prefix)), key=lambda entry: entry.name)
    except OSError as error:
        if is_system_file(f"{in_common_form(prefix)}x"):  # a store's own, such as lost+found
            yield _Seen(prefix, -1, "")
            return
        raise DataError(f"{top / prefix}: cannot be listed ({error.strerror})") from None
    here = (stat.st_dev, stat.st_ino)
    if here in above:
        yield _Seen(prefix.rstrip("/"), -1, "", why="a link back to a folder above")
        return
    for entry in entries:
        name = f"{prefix}{entry.name}"
        if _leads_to_a_folder(entry):
            yield _Seen(name, -1, "", folder=True)
            yield from _walk(top, f"{name}/", (*above, here))
            continue
        try:
            stat = entry.stat()
        except OSError:  # a dangling link: listed, and rejected when it is read
            yield _Seen(name, -1, "unreadable")
            continue
        why = "" if file_types.S_ISREG(stat.st_mode) else "no regular file"
        yield _Seen(name, stat.st_size, f"{stat.st_size} {stat.st_mtime_ns}", why=why)


def _leads_to_a_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _sort_in(listing: Listing, found: list[File], one: _Seen) -> None:
    name = in_common_form(one.name)
    if one.folder:
        if not is_system_file(f"{name}/x"):
            listing.folders.add(name)
    elif is_system_file(name):
        listing.left_aside.add(SYSTEM, name)
    elif one.why:
        listing.left_aside.add(one.why, name)
    else:
        found.append(File(name, one.name, one.size, one.stamp))


def list_zip(path: Path, *, encoding: str | None = None) -> Listing:
    """List a zip, see the module and `list_files`.

    Raises:
        DataError: not a whole zip, or no such encoding.
    """
    try:
        with zipfile.ZipFile(path, metadata_encoding=encoding) as archive:
            members = archive.infolist()
            links = {
                _name_of(one, encoding): archive.read(one).decode("utf-8", "surrogateescape")
                for one in members
                if file_types.S_ISLNK(one.external_attr >> 16)
                and not one.flag_bits & 1
                and one.file_size < _LONGEST_LINK
            }
    except LookupError:
        raise DataError(f"--encoding {encoding}: no such encoding; examples are cp932, gbk and cp1252") from None
    except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError, UnicodeDecodeError, EOFError) as error:
        raise DataError(f"{path}: not a complete zip ({error})") from None
    if members and all(one.flag_bits & 1 for one in members if not one.is_dir()):
        raise DataError(f"{path}: is encrypted; unpack it with its password, and prepare the folder")
    listing = Listing(path, {}, set(), ZipReader(path, encoding))
    files: dict[str, File] = {}
    odd = [one.filename for one in members if encoding is None and _is_unsure(one)]
    if odd:
        listing.notes.append(
            f"{len(odd)} names in it are not UTF-8 and were read as code page 437 (the first: {odd[0]}); "
            "--encoding NAME reads them otherwise"
        )
    for one in members:
        name = _name_of(one, encoding)
        if one.is_dir() or one.filename.endswith("\\"):
            if not is_system_file(f"{name}/x"):
                listing.folders.add(name)
        elif is_system_file(name):
            listing.left_aside.add(SYSTEM, name)
        else:
            if name in files and files[name].where == one.filename:
                listing.left_aside.add(LATER, name)
            elif name in files:
                name = _free(name, files)
            files[name] = File(name, one.filename, one.file_size, f"{one.file_size} {one.CRC}")
    _follow(listing, files, links)
    listing.files = dict(sorted(files.items()))
    listing.folders |= {folder for name in files for folder in _folders_of(name)}
    return listing


def _follow(listing: Listing, files: dict[str, File], links: dict[str, str]) -> None:
    """Put what links lead to in their place."""
    places = {name: file for name, file in files.items() if name not in links}
    for name, target, found in resolved(links, places):
        files.pop(name, None)
        for shown, file in found:
            files[shown] = file._replace(name=shown)
        if not found:
            lost = Lost(str(listing.path), "missing", f"a link to {target}, which is not in the archive")
            files[name] = File(name, lost, -1, "")


def _folders_of(name: str) -> Iterator[str]:
    while "/" in name:
        name = name.rpartition("/")[0]
        yield name


def _name_of(member: zipfile.ZipInfo, encoding: str | None) -> str:
    """Return a member's name in the common form; archivers of Unix write UTF-8 without saying so."""
    name = member.filename
    if encoding is None and not member.flag_bits & _UTF_8_NAME and not name.isascii():
        with contextlib.suppress(UnicodeError):
            name = name.encode("cp437").decode("utf-8")
    return in_common_form(name)


def _is_unsure(member: zipfile.ZipInfo) -> bool:
    """Tell whether a name is neither said to be UTF-8 nor looks like it."""
    if member.flag_bits & _UTF_8_NAME or member.filename.isascii():
        return False
    try:
        member.filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return True
    return False
