"""A CSV, TSV or Parquet table of image paths, with labels and captions if it has them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.csv
import pyarrow.parquet

from data_pipelines.errors import DataError
from data_pipelines.prepare.captions import TEXT, caption_field
from data_pipelines.prepare.files import stamp_of
from data_pipelines.source import FileReader, Item, Source

PATH_COLUMNS = ("path", "file", "filename", "file_name", "image")
LABEL_COLUMNS = ("label", "class", "category")
CAPTION_COLUMNS = ("caption", "text")
SUFFIXES = (".csv", ".tsv", ".parquet")


def from_table(path: Path) -> Source:
    """Return the images that a table lists; their paths are absolute or relative to it.

    Raises:
        DataError: not a table, or without a column of paths.
    """
    table = _read(path)
    paths = _column(table, PATH_COLUMNS)
    if paths is None:
        raise DataError(
            f"{path}: no column of paths; it has {', '.join(table.column_names)}, use one of {PATH_COLUMNS}"
        )
    if not all(isinstance(value, str) and value for value in paths):
        raise DataError(f"{path}: a path is missing or is not a text")
    labels, classes = as_classes(_column(table, LABEL_COLUMNS), str(path))
    captions = _column(table, CAPTION_COLUMNS)
    texts = [str(text).encode() if text else b"" for text in captions or [None] * len(paths)]
    items = [
        Item(name, name, label, {TEXT: text} if text else {})
        for name, label, text in zip(paths, labels or [-1] * len(paths), texts, strict=True)
    ]
    return Source(
        name=path.stem,
        items=items,
        reader=FileReader(path.parent),
        classes=classes,
        licence="not stated",
        origin=str(path),
        fields=caption_field(map(len, texts)) if captions else {},
        stamp=stamp_of({name: _stat(path.parent / name) for name in paths}),
    )


def as_classes(values: Sequence[Any] | None, where: str) -> tuple[list[int], tuple[str, ...]]:
    """Turn a column of labels into class indices and names: numbers are indices, texts are sorted.

    Raises:
        DataError: labels are missing, negative or mixed.
    """
    if values is None:
        return [], ()
    if all(isinstance(value, int) and value >= 0 for value in values):
        return list(values), tuple(str(number) for number in range(max(values, default=-1) + 1))
    if all(isinstance(value, str) and value for value in values):
        classes = tuple(sorted(set(values)))
        index = {name: number for number, name in enumerate(classes)}
        return [index[value] for value in values], classes
    wrong = next(value for value in values if not (isinstance(value, int | str) and value != "" and value != -1))
    raise DataError(f"{where}: labels must all be class indices from 0 on, or all be names; one is {wrong!r}")


def _read(path: Path) -> pyarrow.Table:
    try:
        if path.suffix == ".parquet":
            return pyarrow.parquet.read_table(path)
        options = pyarrow.csv.ParseOptions(delimiter="\t" if path.suffix == ".tsv" else ",", newlines_in_values=True)
        return pyarrow.csv.read_csv(path, parse_options=options)
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: cannot be read as a table ({str(error).splitlines()[0]})") from None


def _column(table: pyarrow.Table, names: Sequence[str]) -> list[Any] | None:
    """Return the values of the first of these columns that the table has."""
    found = next((name for name in names if name in table.column_names), None)
    return None if found is None else table.column(found).to_pylist()


def _stat(path: Path) -> str:
    try:
        stat = path.stat()
    except OSError:
        return "unreadable"
    return f"{stat.st_size} {stat.st_mtime_ns}"
