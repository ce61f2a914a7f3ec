"""Files beside images that describe them: `dataset.json`, `metadata.jsonl`, a table of labels."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
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
        unlabelled: whether they say that the images have no classes, whatever their folders are called.
        notes: what people should know, a sentence each.
    """

    labels: dict[str, int] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    captions: dict[str, bytes] = field(default_factory=dict)
    used: frozenset[str] = frozenset()
    unlabelled: bool = False
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
        below = self._by_end.get(last.rpartition("/")[2], [])
        fitting = [name for name in below if name.startswith(folder) and _ends_so(name, last)]
        return fitting[0] if len(fitting) == 1 else None

    @cached_property
    def _by_end(self) -> dict[str, list[str]]:
        """The images by their last name, with and without its extension."""
        ends: dict[str, list[str]] = {}
        for name in self._names:
            for end in {name.rpartition("/")[2], stem_of(name).rpartition("/")[2]}:
                ends.setdefault(end, []).append(name)
        return ends


def _ends_so(name: str, end: str) -> bool:
    """Tell whether a name, with or without its extension, has this end."""
    return f"/{name}".endswith(end) or f"/{stem_of(name)}".endswith(end)


def described(place: Place, names: Sequence[str], class_folders: bool) -> Description | None:
    """Return what files beside images say about these; None: there are no such files.

    Args:
        place: that lists the files.
        names: of the images.
        class_folders: whether their folders tell classes.

    Raises:
        DataError: such a file cannot be understood.
        UnclearLabelsError: it does not fit the images.
    """
    files = place.listing.files
    above = _folders_above(names)
    for folder in above:
        if folder + LABELS_FILE in files:
            return _from_json(place, names, folder + LABELS_FILE, folder)
    tables = [name for name in files if suffix_of(name) in SUFFIXES]
    metadata = [name for name in tables if stem_of(name).rpartition("/")[2] == METADATA]
    if metadata:
        return _from_tables(place, names, [_read(place, name) for name in metadata], metadata)
    beside = [name for name in tables if name[: name.rfind("/") + 1] in above]
    return _from_a_table(place, names, beside, class_folders) if beside or place.label else None


def _folders_above(names: Sequence[str]) -> list[str]:
    """Return the folders that all images lie below, the outermost first, with a slash behind each but the root's."""
    common = names[0].split("/")[:-1]
    for name in names:
        if not common:
            break
        words = name.split("/")[:-1]
        fitting = (place for place, (one, other) in enumerate(zip(common, words, strict=False)) if one != other)
        common = common[: next(fitting, min(len(common), len(words)))]
    return ["", *("/".join(common[: place + 1]) + "/" for place in range(len(common)))]


def _read(place: Place, name: str) -> Table:
    return read_table(place.listing.content(name), f"{place.path}: {name}", place)


def _from_a_table(place: Place, names: Sequence[str], tables: list[str], class_folders: bool) -> Description | None:
    """Take labels from the one table beside images that lists them, if their folders tell no classes."""
    finder, fitting, notes = Finder(names), [], []
    for name in tables:
        try:
            table = _read(place, name)
        except DataError:  # a table of something else
            continue
        folder = name[: name.rfind("/") + 1]
        if table.paths is None or not any(finder.within(str(one), folder) for one in table.paths):
            continue
        if table.labels is not None:
            fitting.append((name, table))
        elif not class_folders:
            columns = first_of(table.columns, 6)
            notes.append(
                f"{name} lists the images, but none of its columns is recognised as labels ({columns}); "
                "--label selects one"
            )
    if place.label is not None and not fitting:
        raise DataError(f"{place.path}: no table beside the images has a column '{place.label}' for --label")
    if not fitting or (class_folders and place.label is None):
        if fitting:
            notes.append(
                f"{first_of(name for name, _ in fitting)} also lists the images, but was not used, because their "
                f"folders are their classes; --label selects a column of it"
            )
        return Description(notes=tuple(notes))
    if len(fitting) > 1:
        raise UnclearLabelsError(
            f"{place.path}: {first_of(name for name, _ in fitting)} all list the images; move those that are not "
            f"intended elsewhere, or choose a part with --split"
        )
    ((name, table),) = fitting
    return _from_tables(place, names, [table], [name])


def _from_tables(place: Place, names: Sequence[str], tables: list[Table], files: list[str]) -> Description:
    finder = Finder(names)
    captions: dict[str, bytes] = {}
    rows: dict[str, tuple[Any, str]] = {}
    notes: list[str] = []
    again: dict[str, None] = {}
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
                raise DataError(f"{table.name}: {table.row(number)}: {called} is listed twice, with different labels")
            rows[found] = label, f"{table.row(number)} ({called})"
            text = table.captions[number] if table.captions is not None else b""
            if text and captions.setdefault(found, text) != text:
                again[found] = None
    if again:
        notes.append(
            f"{len(again)} images are listed with several captions ({first_of(again)}), of which the first is used; "
            f"prepare table:{place.path / files[0]} for a sample of each"
        )
    used = frozenset(files)
    where = tables[0].name
    if all(table.labels is None for table in tables):
        return Description({}, (), captions, used, notes=tuple(notes))
    if lacking := [name for name in names if name not in rows]:
        raise UnclearLabelsError(
            f"{where}: {len(lacking)} images have no label in it (the first: {lacking[0]}); --label none prepares all "
            "without classes"
        )
    listed = list(rows)
    indices, classes = as_classes([rows[name][0] for name in listed], where, lambda number: rows[listed[number]][1])
    classes = tables[0].named(classes)
    labels = dict(zip(listed, indices or [-1] * len(listed), strict=True))
    return Description(labels if classes else {}, classes, captions, used, notes=tuple(notes))


def _from_json(place: Place, names: Sequence[str], file: str, folder: str) -> Description:
    """Read {"labels": [["path", class index], ...]}."""
    problem = f"{place.path}: {LABELS_FILE}:"
    try:
        document: Any = json.loads(place.listing.content(file).decode("utf-8-sig"))
        pairs = document["labels"]
        if pairs is None:
            return Description(used=frozenset({file}), unlabelled=True)
        pairs = list(pairs.items()) if isinstance(pairs, dict) else [(str(name), label) for name, label in pairs]
    except (ValueError, KeyError, TypeError) as error:
        raise UnclearLabelsError(f'{problem} expected {{"labels": [["path", class index], ...]}} ({error!r})') from None
    finder, labels = Finder(names), {}
    named = bool(pairs) and all(isinstance(label, str) and label for _, label in pairs)
    indices, classes = as_classes([label for _, label in pairs], problem) if named else ([], ())
    for number, (called, label) in enumerate(pairs):
        if not named and (not isinstance(label, int) or isinstance(label, bool) or label < 0):
            raise UnclearLabelsError(f"{problem} the label of {called} is {label!r}, expected a class index")
        labels[finder.find(called, folder) or folder + in_common_form(called)] = indices[number] if named else label
    if len(labels) != len(pairs):
        raise UnclearLabelsError(f"{problem} {len(pairs) - len(labels)} paths are listed twice")
    if unlisted := sorted(set(names) - labels.keys()):
        raise UnclearLabelsError(
            f"{problem} {len(unlisted)} images have no label in it (the first: {unlisted[0]}); --label none prepares "
            "all without classes"
        )
    classes = classes or tuple(str(number) for number in range(max(labels.values(), default=-1) + 1))
    return Description(labels, classes, {}, frozenset({file}))
