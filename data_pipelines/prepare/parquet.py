"""Parquet files that hold the images themselves, as hubs hand out datasets."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pyarrow
import pyarrow.parquet

from data_pipelines.content import LFS_POINTER
from data_pipelines.errors import DataError, first_line
from data_pipelines.prepare.captions import TEXT, caption_field
from data_pipelines.prepare.files import stamp_of
from data_pipelines.prepare.labels import as_classes, distinct_names
from data_pipelines.prepare.layout import ALL
from data_pipelines.prepare.names import first_of, part_of_file, suffix_of
from data_pipelines.prepare.place import NO_LABELS, Place
from data_pipelines.prepare.rows import CAPTION_COLUMNS, LABEL_COLUMNS, caption, chosen
from data_pipelines.source import Item, LeftAside, Lost, Source, Span, SpanReader

_BATCH = 64
_USUAL = ("image", "img", "picture", "photo", "jpg", "png")


def holds_files(path: Path) -> bool:
    """Tell whether a Parquet file has a column with the bytes of image files."""
    return _image_column(_schema(path), None) is not None


def from_parquet(place: Place) -> Source:
    """Return the images of a Parquet file, or of all below a folder, whose bytes are in a column.

    The images are laid out in a file without a name, once and in order: a shuffled walk through row groups would
    decompress each of them a thousand times.

    Raises:
        DataError: no such files, no column of images, or only some have a class.
    """
    aside = LeftAside()
    files, notes = _files(place, aside)
    out = place.scratch_file()
    table = _Table(place)
    try:
        for file in files:
            table.lay_out(file, out.file)
        out.file.flush()
    except DataError:
        out.file.close()
        raise
    except OSError as error:
        raise DataError(
            f"{place.path}: its images cannot be copied to a temporary file ({error}); they need as much disk space "
            f"as the files"
        ) from None
    items, classes = table.labelled()
    unused = [one for one in table.columns if one not in table.taken]
    if unused:
        hint = "" if classes or place.label else " (--label selects one for the classes)"
        notes = (*notes, f"columns that are not used: {first_of(unused, 6)}{hint}")
    stats = {str(file): f"{file.stat().st_size} {file.stat().st_mtime_ns}" for file in files}
    return Source(
        name=place.path.stem,
        items=items,
        reader=SpanReader({str(file): out.path for file in files}, (out,)),
        classes=classes,
        licence="not stated",
        origin=str(place.path),
        fields=caption_field(table.captions),
        stamp=stamp_of(stats),
        left_aside=aside,
        notes=notes,
    )


class _Table:
    """The rows of some files together.

    Args:
        place: which columns are asked for.

    Attributes:
        columns: of all files.
        taken: those that are used.
        captions: lengths of the captions in bytes; empty where there are none.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._items: list[Item] = []
        self._labels: list[Any] = []
        self._names: tuple[str, ...] = ()
        self.columns: dict[str, None] = {}
        self.taken: set[str] = set()
        self.captions: list[int] = []

    def lay_out(self, file: Path, out: IO[bytes]) -> None:
        """Write a file's images to the end of another file, and note its rows.

        Raises:
            DataError: the file has no images, or is damaged.
            OSError: there is no room.
        """
        schema = _schema(file)
        image = _image_column(schema, self._place)
        if image is None:
            raise DataError(f"{file}: no column of image files (bytes); it has {', '.join(schema.names)}")
        label, known = _label_column(schema, self._place, file)
        if self._names and known and self._names != known:
            raise DataError(
                f"{file}: its classes are {first_of(known)}, those of the files before are {first_of(self._names)}; an "
                "index means another class in each: prepare them separately, or use --label none"
            )
        self._names = self._names or known
        text = chosen(schema.names, CAPTION_COLUMNS)
        used = [one for one in (image, label, text) if one]
        self.taken.update(used)
        self.columns |= dict.fromkeys(schema.names)
        for number, row in enumerate(_rows(file, used)):
            where = _laid_out(out, file, row[image])
            about = caption(row[text], str(file), f"row {number}") if text else b""
            if text:
                self.captions.append(len(about))
            self._items.append(Item(f"{file.name} row {number}", where, -1, {TEXT: about} if about else {}))
            self._labels.append(row[label] if label else None)

    def labelled(self) -> tuple[list[Item], tuple[str, ...]]:
        """Return the samples with their classes, and the names of the classes.

        Raises:
            DataError: only some samples have a class.
        """
        items = self._items
        indices, classes = as_classes(self._labels, str(self._place.path), lambda number: items[number].name)
        if indices:
            items = [item._replace(label=index) for item, index in zip(items, indices, strict=True)]
            if len(self._names) >= len(classes):
                classes = distinct_names(self._names, list(map(str, range(len(self._names)))))
        return items, classes


def _files(place: Place, aside: LeftAside) -> tuple[list[Path], tuple[str, ...]]:
    """Return the files of the part that is asked for, and what to tell of the parts."""
    if place.path.is_file():
        place.without_splits()
        return [place.path], ()
    listed = place.listing.files
    names = [name for name in listed if suffix_of(name) == ".parquet"]
    parts = {name: part_of_file(name) for name in names}
    known = sorted({part for part in parts.values() if part})
    for name in listed:
        if name not in parts:
            aside.add("files beside the shards", name)
        elif place.split not in (ALL, parts[name]):
            aside.add("shards of other splits", name)
    kept = [name for name in names if place.split in (ALL, parts[name])]
    if not kept:
        words = f"it has {', '.join(known)}" if known else "hold samples out with --test"
        raise DataError(
            f"{place.path}: has no split '{place.split}' of its own; {words}"
            if names
            else f"{place.path}: no .parquet in it"
        )
    together = f"shards of {', '.join(known)} were combined; --split selects one part"
    notes = (together,) if place.split == ALL and len(known) > 1 else ()
    return [place.path / str(listed[name].where) for name in kept], notes


def _schema(path: Path) -> pyarrow.Schema:
    try:
        with path.open("rb") as file:
            if file.read(len(LFS_POINTER)) == LFS_POINTER:
                raise DataError(f"{path}: is a pointer of Git LFS, not the file itself; git lfs pull fetches it")
        return pyarrow.parquet.read_schema(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path}: cannot be read as a table ({first_line(error)})") from None


def _image_column(schema: pyarrow.Schema, place: Place | None) -> str | None:
    """Return the column with the bytes of image files."""
    found = [
        entry.name
        for entry in schema
        if pyarrow.types.is_binary(entry.type)
        or pyarrow.types.is_large_binary(entry.type)
        or (pyarrow.types.is_struct(entry.type) and entry.type.get_field_index("bytes") >= 0)
    ]
    usual = chosen(found, _USUAL)
    if usual is None and len(found) > 1 and place is not None:
        raise DataError(
            f"{place.path}: several columns contain files ({', '.join(found)}); name the one with the images 'image'"
        )
    return usual or (found[0] if found else None)


def _label_column(schema: pyarrow.Schema, place: Place, file: Path) -> tuple[str | None, tuple[str, ...]]:
    """Return the column of the labels, and the names of the classes where the schema tells them."""
    features = _features(schema)
    if place.label == NO_LABELS:
        return None, ()
    name = chosen(schema.names, place.columns(LABEL_COLUMNS))
    if name is None and place.label:
        raise DataError(f"{file}: no column '{place.label}' for --label; it has {', '.join(schema.names)}")
    if name is None:
        named = [one for one in schema.names if _names(features.get(one))]
        if len(named) > 1:
            raise DataError(f"{file}: several columns are classes ({', '.join(named)}); choose one with --label")
        name = named[0] if named else None
    return name, _names(features.get(name)) if name else ()


def _features(schema: pyarrow.Schema) -> dict[str, Any]:
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, ValueError, TypeError):
        return {}
    return features if isinstance(features, dict) else {}


def _names(feature: Any) -> tuple[str, ...]:
    names = feature.get("names") if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" else None
    return tuple(map(str, names)) if isinstance(names, list) else ()


def _rows(path: Path, columns: list[str]) -> Iterator[dict[str, Any]]:
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(_BATCH, columns=columns):
                yield from batch.to_pylist()
    except pyarrow.ArrowException as error:
        raise DataError(f"{path}: is damaged ({first_line(error)})") from None


def _laid_out(out: IO[bytes], file: Path, image: Any) -> Span | Lost:
    """Write an image's bytes to the end of a file; return where they are."""
    if isinstance(image, dict):
        path = image.get("path")
        image = image.get("bytes")
        if image is None and path and not _is_below(file.parent, path):
            return Lost(str(file), "outside", f"{path} points outside of the folder of the file that lists it")
        if image is None and path:
            try:
                image = (file.parent / path).read_bytes()
            except OSError as error:
                return Lost(str(file), "missing", f"{path}: {error.strerror}")
    if image is None:
        return Lost(str(file), "missing", "the row has no image")
    offset = out.tell()
    out.write(image)
    return Span(str(file), offset, len(image))


def _is_below(folder: Path, path: str) -> bool:
    """Tell whether a path that a stranger may have written stays in a folder, as it is written."""
    return Path(os.path.relpath(folder / path, folder)).parts[:1] != ("..",)
