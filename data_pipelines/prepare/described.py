"""Files beside images that describe them: `dataset.json`, `metadata.jsonl`, a table of labels."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from data_pipelines.errors import DataError
from data_pipelines.prepare.labels import as_classes
from data_pipelines.prepare.layout import UnclearLabelsError
from data_pipelines.prepare.names import first_of, in_common_form, stem_of, suffix_of
from data_pipelines.prepare.place import Place
from data_pipelines.prepare.rows import SUFFIXES, Table, read_table

LABELS_FILE = "dataset.json"
METADATA = "metadata"
"""Name, before the extension, of tables that describe the images below their folder (`file_name`, `text`, …)."""


@dataclass(frozen=True)
class Description:
    """What files beside images say about these.

    Attributes:
        labels: class indices by the images' names; empty: the files tell none.
        classes: names of the classes.
        captions: by the images' names.
        used: names of the files.
        notes: what people should know, a sentence each.
    """

    labels: dict[str, int] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    captions: dict[str, bytes] = field(default_factory=dict)
    used: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()


class Finder:
    """Finds images by the names that others' files call them.

    Args:
        names: of the images, in the common form.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = set(names)

    def find(self, called: str, folder: str = "") -> str | None:
        """Return an image's name: as it is called, with other separators, or in the other form of its accents.

        Args:
            called: what the file calls it.
            folder: that the file lies in, with a slash behind it.
        """
        name = in_common_form(called)
        for one in (folder + name, name):
            if one in self._names:
                return one
        return None

    def within(self, called: str, folder: str) -> str | None:
        """Return an image's name, also where it lies in one of the folders beside the file; None if in several."""
        if (found := self.find(called, folder)) is not None:
            return found
        last = "/" + in_common_form(called)
        found_below = self._by_end().get(last.rpartition("/")[2], [])
        fitting = [name for name in found_below if name.startswith(folder) and name.endswith(last)]
        return fitting[0] if len(fitting) == 1 else None

    def _by_end(self) -> dict[str, list[str]]:
        if not hasattr(self, "_ends"):
            self._ends: dict[str, list[str]] = {}
            for name in self._names:
                self._ends.setdefault(name.rpartition("/")[2], []).append(name)
        return self._ends


def described(place: Place, names: Sequence[str]) -> Description | None:
    """Return what files beside images say about these; None: there are no such files.

    Args:
        place: that lists the files.
        names: of the images.

    Raises:
        DataError: such a file cannot be understood.
        UnclearLabelsError: it does not fit the images.
    """
    files = place.listing.files
    root = _common_folder(names)
    for folder in dict.fromkeys(("", root)):
        if folder + LABELS_FILE in files:
            return _from_json(place, names, folder + LABELS_FILE, folder)
    tables = [name for name in files if suffix_of(name) in SUFFIXES]
    metadata = [name for name in tables if stem_of(name).rpartition("/")[2] == METADATA]
    if metadata:
        return _from_tables(place, names, [_read(place, name) for name in metadata], metadata)
    return _from_a_table(place, names, [name for name in tables if name.rpartition("/")[0] + "/" in ("/", root)])


def _common_folder(names: Sequence[str]) -> str:
    """Return the folders that all images lie in, with a slash behind them."""
    common = names[0].split("/")[:-1]
    for name in names:
        words = name.split("/")[:-1]
        common = [one for one, other in zip(common, words, strict=False) if one == other] if words != common else common
        if not common:
            return ""
    return "/".join(common) + "/" if common else ""


def _read(place: Place, name: str) -> Table:
    return read_table(place.listing.content(name), f"{place.path}: {name}", place)


def _from_a_table(place: Place, names: Sequence[str], tables: list[str]) -> Description | None:
    """Take labels from the one table beside images that lists them, if their folders tell no classes."""
    finder, fitting, notes = Finder(names), [], []
    for name in tables:
        try:
            table = _read(place, name)
        except DataError:
            continue
        folder = name.rpartition("/")[0]
        listed = (
            [] if table.paths is None else [finder.within(str(one), folder and f"{folder}/") for one in table.paths]
        )
        if table.labels is not None and any(listed):
            fitting.append((name, table))
    if not fitting:
        return None
    folders = {name.rpartition("/")[0] for name in names}
    if len(folders) > 1 and place.label is None:
        listing = first_of(name for name, _ in fitting)
        notes.append(
            f"{listing} lists the images, too, and was not taken: their folders are their classes; "
            f"--kind table with its path takes it"
        )
        return Description(notes=tuple(notes))
    if len(fitting) > 1:
        raise UnclearLabelsError(
            f"{place.path}: {first_of(name for name, _ in fitting)} list the images; prepare the one that is meant, "
            f"table:{place.path / fitting[0][0]}"
        )
    ((name, table),) = fitting
    return _from_tables(place, names, [table], [name])


def _from_tables(place: Place, names: Sequence[str], tables: list[Table], files: list[str]) -> Description:
    finder = Finder(names)
    captions: dict[str, bytes] = {}
    rows: dict[str, tuple[Any, str]] = {}
    notes: list[str] = []
    for table, file in zip(tables, files, strict=True):
        folder = file.rpartition("/")[0]
        folder = folder and f"{folder}/"
        if table.paths is None:
            raise DataError(f"{table.name}: no column of the images' names; it has {first_of(table.columns, 9)}")
        notes += table.notes
        for number, called in enumerate(table.paths):
            found = finder.within(called, folder) or folder + in_common_form(called)
            label = None if table.labels is None else table.labels[number]
            if found in rows and rows[found][0] != label:
                raise DataError(f"{table.name}: {table.row(number)}: {called} is listed before, with another label")
            rows[found] = label, f"{table.row(number)} ({called})"
            if table.captions is not None and table.captions[number]:
                captions[found] = table.captions[number]
    used = frozenset(files)
    where = tables[0].name
    if all(table.labels is None for table in tables):
        return Description({}, (), captions, used, tuple(notes))
    if lacking := [name for name in names if name not in rows]:
        raise UnclearLabelsError(
            f"{where}: {len(lacking)} images have no label in it (the first: {lacking[0]}); --label none prepares all "
            "without classes"
        )
    listed = list(rows)
    indices, classes = as_classes([rows[name][0] for name in listed], where, lambda number: rows[listed[number]][1])
    classes = tables[0].named(classes)
    labels = dict(zip(listed, indices or [-1] * len(listed), strict=True))
    return Description(labels if classes else {}, classes, captions, used, tuple(notes))


def _from_json(place: Place, names: Sequence[str], file: str, folder: str) -> Description:
    """Read {"labels": [["path", class index], ...]}."""
    problem = f"{place.path}: {LABELS_FILE}:"
    try:
        document: Any = json.loads(place.listing.content(file).decode("utf-8-sig"))
        pairs = document["labels"]
        if pairs is None:
            return Description(used=frozenset({file}))
        pairs = list(pairs.items()) if isinstance(pairs, dict) else [(str(name), label) for name, label in pairs]
    except (ValueError, KeyError, TypeError) as error:
        raise UnclearLabelsError(f'{problem} expected {{"labels": [["path", class index], ...]}} ({error!r})') from None
    finder, labels = Finder(names), {}
    for called, label in pairs:
        if not isinstance(label, int) or isinstance(label, bool) or label < 0:
            raise UnclearLabelsError(f"{problem} the label of {called} is {label!r}, expected a class index")
        labels[finder.find(called, folder) or folder + in_common_form(called)] = label
    if len(labels) != len(pairs):
        raise UnclearLabelsError(f"{problem} {len(pairs) - len(labels)} paths are listed twice")
    if unlisted := sorted(set(names) - labels.keys()):
        raise UnclearLabelsError(
            f"{problem} {len(unlisted)} images have no label in it (the first: {unlisted[0]}); --label none prepares "
            "all without classes"
        )
    classes = tuple(str(number) for number in range(max(labels.values(), default=-1) + 1))
    return Description(labels, classes, {}, frozenset({file}))
