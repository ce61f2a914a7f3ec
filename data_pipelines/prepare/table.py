"""The images that a table lists, with labels and captions if it has them."""

import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_pipelines.errors import DataError
from data_pipelines.prepare.captions import TEXT, caption_field
from data_pipelines.prepare.files import stamp_of
from data_pipelines.prepare.labels import as_classes
from data_pipelines.prepare.place import Place
from data_pipelines.prepare.rows import PATH_COLUMNS, Table, read_table
from data_pipelines.source import FileReader, Item, LeftAside, Source
from data_pipelines.trust import is_trusted

_LOOKED_AT = 100


def from_table(place: Place) -> Source:
    """Return the images that a table lists; their paths are absolute or relative to it.

    Raises:
        DataError: not a table, or without a column of paths.
    """
    place.without_splits()
    path = place.path
    table = read_table(_content(path), str(path), place)
    paths = table.paths
    if paths is None:
        raise DataError(
            f"{path}: no column of paths; it has {', '.join(table.columns)}, use one of {', '.join(PATH_COLUMNS)} "
            "(the first line names the columns)"
        )
    wrong = next((number for number, value in enumerate(paths) if not isinstance(value, str) or not value), None)
    if wrong is not None:
        raise DataError(f"{path}: {table.row(wrong)}: a path is missing or is not a text ({str(paths[wrong])[:60]!r})")
    names = [_on_disk(path.parent, name) for name in paths]
    _check_inside(path, names)
    kept, aside = _distinct(table, names)
    labels, classes = as_classes(
        None if table.labels is None else [table.labels[number] for number in kept],
        str(path),
        lambda number: f"{table.row(kept[number])} ({paths[kept[number]]})",
    )
    if names and not any(os.path.lexists(path.parent / name) for name in names[:_LOOKED_AT]):
        count = len(names[:_LOOKED_AT])
        if "://" in paths[0]:
            raise DataError(f"{path}: lists URLs ({paths[0][:60]}); download them first, as img2dataset does")
        raise DataError(
            f"{path}: none of the first {count} files that it lists exists (the first: {paths[0][:60]}); "
            f"paths are relative to {path.parent}; if the images are in a folder beside it, prepare "
            f"folder:{path.parent}"
        )
    texts = table.captions or [b""] * len(paths)
    items = [
        Item(names[number], names[number], label, {TEXT: texts[number]} if texts[number] else {})
        for number, label in zip(kept, labels or [-1] * len(kept), strict=True)
    ]
    return Source(
        name=path.stem,
        items=items,
        reader=FileReader(path.parent),
        classes=table.named(classes),
        licence="not stated",
        origin=str(path),
        fields=caption_field(map(len, texts)) if table.captions is not None else {},
        stamp=stamp_of({name: _stat(path.parent / name) for name in names}),
        left_aside=aside,
        notes=table.notes,
    )


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None


def _check_inside(table: Path, names: Sequence[str]) -> None:
    """Refuse a table that lists files outside of its folder, unless the user trusts it: a stranger may have made it."""
    if is_trusted(table):
        return
    top = table.parent.resolve()
    # Links are the user's own, a name is the table's: so names are judged as they are written.
    outside = [name for name in names if not Path(os.path.normpath(top / name)).is_relative_to(top)]
    if outside:
        raise DataError(
            f"{table}: {len(outside)} of its paths point outside of its folder (the first: {outside[0]}); if you "
            f"trust it: bigtrain --trusted-data {table} data prepare ..."
        )


def _on_disk(folder: Path, name: str) -> str:
    """Return the path of a listed file: as it is called, with other separators, or with another form of accents."""
    if os.path.lexists(folder / name):
        return name
    other = name.replace("\\", "/")
    forms = (other, unicodedata.normalize("NFC", other), unicodedata.normalize("NFD", other))
    return next((form for form in forms if os.path.lexists(folder / form)), name)


def _distinct(table: Table, names: Sequence[str]) -> tuple[list[int], LeftAside]:
    """Return the rows without those that say a second time what another says.

    Raises:
        DataError: an image is listed with two labels.
    """
    seen: dict[str, Any] = {}
    whole: set[tuple[str, bytes]] = set()
    kept, aside = [], LeftAside()
    for number, name in enumerate(names):
        label = None if table.labels is None else table.labels[number]
        if seen.setdefault(name, label) != label:
            raise DataError(
                f"{table.name}: {table.row(number)}: {name} has the label {label!r}, and {seen[name]!r} in an "
                f"earlier row"
            )
        row = name, table.captions[number] if table.captions else b""
        if row in whole:
            aside.add("rows that repeat another", f"{table.row(number)}: {name}")
        else:
            whole.add(row)
            kept.append(number)
    return kept, aside


def _stat(path: Path) -> str:
    try:
        stat = path.stat()
    except OSError:
        return "unreadable"
    return f"{stat.st_size} {stat.st_mtime_ns}"
