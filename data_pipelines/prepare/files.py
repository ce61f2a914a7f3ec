"""Image files in a folder or a zip: a class is a sub-folder, or `dataset.json` tells the classes."""

import hashlib
import json
import os
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from data_pipelines.errors import DataError
from data_pipelines.fields.spec import FieldSpec
from data_pipelines.prepare.captions import TEXT, caption_field
from data_pipelines.source import FileReader, Item, Reader, Source, ZipReader

IMAGE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".avif", ".jp2", ".tga"}
)
BESIDE = {".json": "json", ".txt": TEXT}
"""Extensions of files beside an image, of the same name, that are kept with it: a member, and the field of captions."""
LABELS_FILE = "dataset.json"


def from_folder(path: Path) -> Source:
    """Return the images below a folder.

    Raises:
        DataError: no images, or it is unclear what their classes are.
    """
    stats = dict(walk(path))
    labels = (path / LABELS_FILE).read_bytes() if LABELS_FILE in stats else None
    return _source(path, stats, FileReader(path), labels)


def from_zip(path: Path) -> Source:
    """Return the images in a zip.

    Raises:
        DataError: not a zip, no images, or it is unclear what their classes are.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = {
                member.filename: f"{member.file_size} {member.CRC}"
                for member in archive.infolist()
                if not member.is_dir() and not member.filename.startswith("__MACOSX/")
            }
            root = _common_root(members)
            labels = archive.read(root + LABELS_FILE) if root + LABELS_FILE in members else None
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(f"{path}: not a whole zip ({error})") from None
    return _source(path, members, ZipReader(path), labels, root)


def walk(folder: Path) -> Iterator[tuple[str, str]]:
    """Iterate over the files below a folder, links followed, sorted: path relative to it, and what changes with it.

    Raises:
        DataError: a folder cannot be listed.
    """
    seen: set[tuple[int, int]] = set()
    for parent, folders, names in os.walk(folder, followlinks=True, onerror=_refuse):
        stat = Path(parent).stat()
        if (stat.st_dev, stat.st_ino) in seen:  # a link back to a folder above
            folders.clear()
            continue
        seen.add((stat.st_dev, stat.st_ino))
        folders.sort()
        for name in sorted(names):
            file = Path(parent, name)
            try:
                stat = file.stat()
                yield file.relative_to(folder).as_posix(), f"{stat.st_size} {stat.st_mtime_ns}"
            except OSError:  # a dangling link: listed, and rejected when it is read
                yield file.relative_to(folder).as_posix(), "unreadable"


def _refuse(error: OSError) -> None:
    raise DataError(f"{error.filename}: cannot be listed ({error.strerror})") from None


def is_image(name: str) -> bool:
    """Tell by its name whether a file is an image."""
    return PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES and not PurePosixPath(name).name.startswith(".")


def stamp_of(stats: Mapping[str, str]) -> str:
    """Hash what changes with files."""
    return hashlib.sha256(repr(sorted(stats.items())).encode("utf-8", "surrogateescape")).hexdigest()


@dataclass(frozen=True)
class Found:
    """Image files with the files that describe them.

    Attributes:
        items: a sample an image.
        fields: that the items have besides the image.
        members: further ones that they have.
        left_aside: number of files that belong to no image.
    """

    items: list[Item]
    fields: dict[str, FieldSpec]
    members: tuple[str, ...]
    left_aside: int


def items_of(names: list[str], stats: Mapping[str, str], labels: Mapping[str, int]) -> Found:
    """Return items of image files with the files beside them.

    Args:
        names: of the images.
        stats: of all files, as `walk` has them: the length comes first.
        labels: class indices by name.
    """
    items, used, captions = [], set(names), []
    for name in names:
        stem = str(PurePosixPath(name).with_suffix(""))
        beside = {kept: stem + suffix for suffix, kept in BESIDE.items() if stem + suffix in stats}
        used.update(beside.values())
        if TEXT in beside:
            length = stats[beside[TEXT]].partition(" ")[0]
            captions.append(int(length) if length.isdecimal() else 0)
        items.append(Item(name, name, labels.get(name, -1), beside))
    members = tuple(sorted({name for item in items for name in item.fields} - {TEXT}))
    return Found(items, caption_field(captions), members, len(stats) - len(used))


def _source(path: Path, stats: Mapping[str, str], reader: Reader, labels_file: bytes | None, root: str = "") -> Source:
    names = [name for name in sorted(stats) if is_image(name)]
    if labels_file is None:
        labels, classes = labels_from_folders(path, names, root)
    else:
        labels, classes = _labels_from_json(path, names, labels_file, root)
        names = sorted({*names, *labels})  # what is listed and lacks is rejected when it is read
        stats = {name: stat for name, stat in stats.items() if name != root + LABELS_FILE}
    if not names:
        raise DataError(f"{path}: no images in it ({', '.join(sorted(IMAGE_SUFFIXES))})")
    found = items_of(names, stats, labels)
    return Source(
        name=path.stem,
        items=found.items,
        reader=reader,
        classes=classes,
        licence="not stated",
        origin=str(path),
        fields=found.fields,
        members=found.members,
        stamp=stamp_of(stats),
        left_aside=found.left_aside,
    )


def labels_from_folders(path: Path, names: list[str], root: str) -> tuple[dict[str, int], tuple[str, ...]]:
    """Take the first folder of each path as its class; images in one folder have none."""
    tops = {name: PurePosixPath(name.removeprefix(root)).parts for name in names}
    loose = [name for name, parts in tops.items() if len(parts) == 1]
    if len(loose) == len(names):
        return {}, ()
    if loose:
        raise DataError(
            f"{path}: {len(loose)} images lie beside the class folders (the first: {loose[0]}); move them into one"
        )
    classes = tuple(sorted({parts[0] for parts in tops.values()}))
    index = {name: number for number, name in enumerate(classes)}
    return {name: index[parts[0]] for name, parts in tops.items()}, classes


def _labels_from_json(
    path: Path, names: list[str], content: bytes, root: str
) -> tuple[dict[str, int], tuple[str, ...]]:
    """Read {"labels": [["path", class index], ...]}."""
    problem = f"{path}: {LABELS_FILE}:"
    try:
        document: Any = json.loads(content)
        pairs = document["labels"]
        if pairs is None:
            return {}, ()
        labels = {root + str(name): label for name, label in pairs}
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f'{problem} expected {{"labels": [["path", class index], ...]}} ({error!r})') from None
    for name, label in labels.items():
        if not isinstance(label, int) or isinstance(label, bool) or label < 0:
            raise DataError(f"{problem} the label of {name} is {label!r}, expected a class index")
    if len(labels) != len(pairs):
        raise DataError(f"{problem} {len(pairs) - len(labels)} paths are listed twice")
    if unlisted := sorted(set(names) - labels.keys()):
        raise DataError(f"{problem} {len(unlisted)} images have no label in it (the first: {unlisted[0]})")
    return labels, tuple(str(number) for number in range(max(labels.values(), default=-1) + 1))


def _common_root(names: Mapping[str, str]) -> str:
    """Return the one folder that a zip's files all lie in, if it is not a class: there are folders or labels in it."""
    tops = {PurePosixPath(name).parts[0] for name in names}
    if len(tops) != 1:
        return ""
    (top,) = tops
    deep = any(len(PurePosixPath(name).parts) > 2 for name in names)
    return f"{top}/" if deep or f"{top}/{LABELS_FILE}" in names else ""
