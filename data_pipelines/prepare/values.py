"""Arrays in folders, or the rows of one array: samples of the kind `array`."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from data_pipelines.errors import DataError
from data_pipelines.fields.registry import find_kind
from data_pipelines.fields.spec import FieldSpec
from data_pipelines.prepare.arrays import from_fields
from data_pipelines.prepare.files import stamp_of
from data_pipelines.prepare.layout import layout_of
from data_pipelines.prepare.listing import list_folder
from data_pipelines.prepare.names import suffix_of
from data_pipelines.prepare.place import NO_LABELS, Place
from data_pipelines.protocol import Rejected
from data_pipelines.source import FileReader, Item, Source

ARRAYS = (".npy",)
"""Extensions of files that are taken for arrays."""

_KIND = "array"
"""Name of the field, and of its kind."""

_PROBES = 64


def from_arrays(place: Place) -> Source:
    """Return the arrays below a folder, or the rows of one `.npy` file; the field is `array`.

    All samples are alike: files of another shape or type than most of some that are looked at are rejected.

    Raises:
        DataError: no arrays, or none of them can be read.
    """
    place.without_splits()
    path = place.path
    return _rows(path) if path.is_file() else _from_folder(path, labelled=place.label != NO_LABELS)


def _from_folder(path: Path, *, labelled: bool) -> Source:
    listing = list_folder(path) if path.is_dir() else None
    names = [name for name in listing.files if suffix_of(name) in ARRAYS] if listing else []
    if not names or listing is None:
        raise DataError(f"{path}: no files of kind array in it ({', '.join(ARRAYS)})")
    layout = layout_of(names, str(path), folders=listing.folders, labelled=labelled)
    places = [str(listing.files[name].where) for name in names]
    return Source(
        name=path.name,
        items=[Item(name, where, layout.labels.get(name, -1)) for name, where in zip(names, places, strict=True)],
        reader=FileReader(path),
        classes=layout.classes,
        licence="not stated",
        origin=str(path),
        images=(),
        fields={_KIND: _common(path, places)},
        stamp=stamp_of(listing.stats),
        left_aside=listing.others(names),
        notes=layout.notes,
    )


def _rows(path: Path) -> Source:
    """Return the rows of one array file."""
    try:
        rows = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise DataError(f"{path}: not a NumPy file of numbers ({error})") from None
    if not rows.ndim or not len(rows):
        raise DataError(f"{path}: an array of shape {rows.shape} has no rows")
    spec = FieldSpec("array", rows.shape[1:], rows.dtype.name, codec="npy")
    source = from_fields(path.stem, {"array": rows}, {"array": spec}, origin=str(path))
    if rows.ndim == 4 and rows.shape[3] in (1, 3):
        kept = f"{rows.dtype.name} {list(rows.shape[1:])}: kept as arrays; images are uint8, see docs/how-to/data.md"
        source = replace(source, notes=(*source.notes, kept))
    return replace(source, stamp=stamp_of({path.name: f"{path.stat().st_size} {path.stat().st_mtime_ns}"}))


def _common(path: Path, names: Sequence[str]) -> FieldSpec:
    """Return the spec that most of some files have."""
    step = max(1, len(names) // _PROBES)
    specs, problem = [], ""
    for name in names[::step]:
        try:
            specs.append(find_kind(_KIND).probe(FileReader(path).read(name)))
        except (Rejected, ValueError) as error:
            problem = f"{name}: {error}"
    if not specs:
        raise DataError(f"{path}: none of its files of kind array can be read; the last, {problem}")
    return Counter(specs).most_common(1)[0][0]
