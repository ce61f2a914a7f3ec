"""The rows of tables about images: CSV and its relatives, JSON lines, Parquet."""

import codecs
import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow
import pyarrow.parquet

from data_pipelines.content import LFS_POINTER
from data_pipelines.errors import DataError, first_line
from data_pipelines.prepare.labels import distinct_names
from data_pipelines.prepare.names import first_of, suffix_of
from data_pipelines.prepare.place import Place

PATH_COLUMNS = (
    "path",
    "file",
    "filename",
    "file_name",
    "image",
    "image_path",
    "filepath",
    "file_path",
    "img_path",
    "image_name",
    "image_file",
    "img",
    "img_name",
    "id",
    "image_id",
    "name",
)
LABEL_COLUMNS = ("label", "class", "category", "labels", "target", "class_name", "class_label", "class_id")
CAPTION_COLUMNS = ("caption", "text", "prompt")
LINES = (".csv", ".tsv")
SUFFIXES = (*LINES, ".jsonl", ".ndjson", ".parquet")

_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_SEPARATORS = ",;\t|"
_EXCELS_FIRST_LINE = re.compile(r"\ufeff?\"?sep=([,;\t|])\"?\r?\n")
_ZIP = b"PK\x03\x04"


@dataclass(frozen=True)
class Table:
    """The rows of a table that matter.

    Attributes:
        name: of the table, for messages.
        columns: names of all columns.
        paths: of the images; None: it has no such column.
        labels: of any types, None where there is none; None: it has no such column.
        captions: UTF-8, empty where there is none; None: it has no such column.
        names: of the classes, where the table tells them; labels are indices then.
        row: says which row a number is.
        notes: what people should know of how it was read.
    """

    name: str
    columns: tuple[str, ...]
    paths: list[Any] | None
    labels: list[Any] | None
    captions: list[bytes] | None
    names: tuple[str, ...] = ()
    row: Callable[[int], str] = field(default="row {}".format, compare=False)
    notes: tuple[str, ...] = ()

    def named(self, classes: tuple[str, ...]) -> tuple[str, ...]:
        """Return the names of the classes of which others are the indices, or these where the table has none."""
        if not classes or len(self.names) < len(classes):
            return classes
        return distinct_names(self.names, [str(number) for number in range(len(self.names))])


def read_table(content: bytes, name: str, place: Place) -> Table:
    """Read a table.

    Args:
        content: of its file.
        name: of the file, for messages and for its kind.
        place: with what the user says of it.

    Raises:
        DataError: it cannot be read, or its label column is not there.
    """
    if content.startswith(LFS_POINTER):
        raise DataError(f"{name}: is a pointer of Git LFS, not the file itself; git lfs pull fetches it")
    if content.startswith(_ZIP):
        raise DataError(
            f"{name}: is a workbook (.xlsx) or another zip, not a text table; save it as CSV, UTF-8, and prepare that"
        )
    suffix = suffix_of(name)
    names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    if suffix == ".parquet":
        try:
            arrow = pyarrow.parquet.read_table(pyarrow.BufferReader(content))
        except (pyarrow.ArrowException, OSError) as error:
            raise DataError(f"{name}: cannot be read as a table ({first_line(error)})") from None
        columns: dict[str, list[Any]] = {column: arrow.column(column).to_pylist() for column in arrow.column_names}
        row: Callable[[int], str] = "row {}".format
    else:
        text, notes = _decoded(content, name, place.encoding)
        columns = _json_rows(text, name) if suffix in (".jsonl", ".ndjson") else _text_rows(text, name)
        row = _line if suffix in LINES else lambda number: f"line {number + 1}"
    return _table(name, columns, place, row, notes, names)


def _line(number: int) -> str:
    return f"row {number + 2}"  # as a spreadsheet counts: the columns' names are row 1


def _table(
    name: str,
    columns: Mapping[str, list[Any]],
    place: Place,
    row: Callable[[int], str],
    notes: tuple[str, ...],
    names: tuple[str, ...],
) -> Table:
    paths, labels, captions = (
        chosen(columns, wanted) for wanted in (PATH_COLUMNS, place.columns(LABEL_COLUMNS), CAPTION_COLUMNS)
    )
    if place.label and place.columns(()) and labels is None:
        raise DataError(f"{name}: no column '{place.label}' for --label; it has {', '.join(columns)}")
    unused = [column for column in columns if column and column not in (paths, labels, captions)]
    if unused and labels is None and place.label is None:
        notes = (
            *notes,
            f"{name}: no column of labels was found; columns that are not used: {first_of(unused, 6)} (--label "
            f"selects one)",
        )
    texts = (
        None
        if captions is None
        else [caption(text, name, row(number)) for number, text in enumerate(columns[captions])]
    )
    return Table(
        name,
        tuple(columns),
        None if paths is None else list(columns[paths]),
        None if labels is None else list(columns[labels]),
        texts,
        names,
        row,
        notes,
    )


def chosen(columns: Iterable[str], wanted: Sequence[str]) -> str | None:
    """Return the name of the first of some columns that a table has, in any case."""
    have = {column.strip().lower().replace(" ", "_"): column for column in reversed(list(columns))}
    return next((have[name.lower()] for name in wanted if name.lower() in have), None)


def caption(text: Any, name: str, row: str) -> bytes:
    """Return a caption as it is stored; empty where there is none.

    Raises:
        DataError: it is no text.
    """
    if text is not None and not isinstance(text, str | int | float):
        raise DataError(f"{name}: {row}: the caption is {str(text)[:60]}, expected a text")
    return b"" if text is None else str(text).encode("utf-8", "replace")


def _decoded(content: bytes, name: str, encoding: str | None) -> tuple[str, tuple[str, ...]]:
    """Return a table's text, and what to tell of its encoding: UTF-8, what a mark says, or what the user says."""
    found = next((one for mark, one in _MARKS.items() if content.startswith(mark)), None)
    if found is None and encoding is None and content[:200].count(0) > len(content[:200]) // 4:
        found = "utf-16-le" if content[1:2] == b"\0" else "utf-16-be"
    try:
        return content.decode(found or encoding or "utf-8"), ()
    except LookupError:
        raise DataError(f"--encoding {encoding}: no such encoding; examples are cp1252, gbk and utf-16") from None
    except UnicodeDecodeError as error:
        if found or encoding:
            raise DataError(
                f"{name}: is not {found or encoding} at byte {error.start}; name its encoding with --encoding"
            ) from None
    try:
        text = content.decode("cp1252")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{name}: is neither UTF-8 nor Windows-1252 (byte {error.start}); name its encoding with --encoding"
        ) from None
    return text, (f"{name}: is not UTF-8 and was read as Windows-1252; --encoding NAME reads it otherwise",)


def _json_rows(text: str, name: str) -> dict[str, list[Any]]:
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(f"{name}: line {number}: cannot be read as JSON ({error})") from None
        if not isinstance(row, dict):
            raise DataError(f"{name}: line {number}: expected an object with the image's name, found {line[:60]}")
        rows.append(row)
    columns = dict.fromkeys(key for row in rows for key in row)
    if not columns:
        raise DataError(f"{name}: cannot be read as a table (it is empty)")
    return {column: [row.get(column) for row in rows] for column in columns}


def _text_rows(text: str, name: str) -> dict[str, list[Any]]:
    """Read the rows of a CSV; its separator is the one that its first line has most of."""
    head = next(csv.reader(text.splitlines()[:1]), [""])
    line = text.partition("\n")[0]
    separator = max(_SEPARATORS, key=line.count) if len(head) < 2 or line.count("\t") else ","
    if said := _EXCELS_FIRST_LINE.match(text):
        separator, text = said[1], text[said.end() :]
    try:
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True) if row]
    except csv.Error as error:
        raise DataError(f"{name}: cannot be read as a table ({error})") from None
    if not rows:
        raise DataError(f"{name}: cannot be read as a table (it is empty)")
    header, *rows = rows
    if len(set(header)) < len(header):
        twice = next(column for column in header if header.count(column) > 1)
        raise DataError(f"{name}: two columns are called '{twice}'")
    for number, row in enumerate(rows):
        if len(row) != len(header):
            raise DataError(
                f"{name}: {_line(number)} has {len(row)} values, the first line names {len(header)} columns"
            )
    return {column.strip(): [row[place] or None for row in rows] for place, column in enumerate(header)}
