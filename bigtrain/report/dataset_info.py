"""Show a dataset to a person: tables and a contact sheet."""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from rich.table import Column, Table
from rich.text import Text

from bigtrain.core.logging import console
from data_pipelines.codec import Pixels
from data_pipelines.errors import DataError
from data_pipelines.faults import Fault
from data_pipelines.fields.spec import FieldSpec
from data_pipelines.manifest import CLASS, Manifest
from data_pipelines.order import Location
from data_pipelines.read import ShardDataset

CONTACT_SHEET = "contact_sheet.png"

_COLUMNS = 12
_ROWS_WITHOUT_CLASSES = 5
_CLASSES_SHOWN = 50
_CELL, _GAP, _FONT = 72, 2, 13  # pixels


def facts_of(manifest: Manifest) -> dict[str, Any]:
    """Return what `describe` prints, for programs."""
    return {
        "name": manifest.name,
        "samples": manifest.count,
        "fields": {name: _field_words(spec) for name, spec in manifest.fields.items() if name != CLASS},
        "shards": len(manifest.shards),
        "bytes": manifest.bytes,
        "classes": dict(zip(manifest.classes, map(int, manifest.class_histogram), strict=True)),
        "other_members": list(manifest.members),
        "rejected": manifest.rejected,
        "protocol": manifest.protocol,
        "source": manifest.source,
        "licence": manifest.licence,
        "digest": manifest.digest,
    }


def describe(manifest: Manifest) -> None:
    """Print tables of what the manifest says: of the set, and of its classes."""
    table = Table(Column(no_wrap=True), Column(overflow="fold"), show_header=False, box=None)
    labelled = f"{len(manifest.classes)}" if manifest.classes else "none, unlabelled"
    rows = {
        "name": manifest.name,
        "samples": f"{manifest.count:,}",
        **{f"field {field}": _field_words(spec) for field, spec in manifest.fields.items() if field != CLASS},
        "shards": f"{len(manifest.shards):,}",
        "bytes": f"{manifest.bytes:,} ({manifest.bytes / max(manifest.count, 1):,.0f} per sample)",
        "classes": labelled,
        "other members": ", ".join(manifest.members) or "none",
        "rejected": f"{manifest.rejected:,}" + (" (see rejected.jsonl)" if manifest.rejected else ""),
        "protocol": manifest.protocol,
        "source": manifest.source,
        "licence": manifest.licence,
        "digest": manifest.digest,
    }
    for name, value in rows.items():
        table.add_row(name, Text(value))
    console.print(table)
    if not manifest.classes:
        return
    table = Table("class", Column("name", overflow="fold"), Column("samples", justify="right"), box=None)
    for label, (name, count) in enumerate(zip(manifest.classes, manifest.class_histogram, strict=True)):
        if label < _CLASSES_SHOWN:
            table.add_row(str(label), Text(name), f"{count:,}")
    console.print(table)
    if len(manifest.classes) > _CLASSES_SHOWN:
        console.print(f"... and {len(manifest.classes) - _CLASSES_SHOWN:,} more classes")


_AXES = {"image": "channels x height x width", "audio": "channels x samples", "video": "frames x channels x h x w"}


def _field_words(spec: FieldSpec) -> str:
    """Say what a field is: its kind, type, shape, how it is stored, and how fast it plays."""
    axes = f" ({_AXES[spec.kind]})" if spec.kind in _AXES else ""
    rate = f", {spec.rate:g} per second" if spec.rate else ""
    return f"{spec.kind}, {spec.dtype} of {spec.size_words}{axes}{rate}, {spec.codec}"


def show_faults(faults: Sequence[Fault]) -> None:
    """Print a table of what is wrong with a dataset, if anything is."""
    if not faults:
        return
    table = Table(Column("shard", overflow="fold"), "sample", Column("problem", overflow="fold"), box=None)
    for fault in faults:
        table.add_row(fault.file, "" if fault.row is None else str(fault.row), fault.problem)
    console.print(table, markup=False)


def write_contact_sheet(dataset: ShardDataset, path: Path) -> None:
    """Write a PNG of a dataset's first images: one row a class, with its name; a few rows where there are no classes.

    The images of one sample, such as an input and its target, stand side by side.

    Raises:
        DataError: the file cannot be written, or the dataset has no images that can be shown.
    """
    fields = picture_fields(dataset.manifest)
    if not fields:
        raise DataError(f"{dataset.folder}: has no images of 8 bits and 1 to 4 channels that could be shown")
    names: Sequence[str] = dataset.manifest.classes or [""] * _ROWS_WITHOUT_CLASSES
    rows = _first_of_each_class(dataset)
    _, height, width = dataset.manifest.fields[fields[0]].shape
    scale = _CELL / max(height, width)
    scale = max(1, int(scale)) if scale >= 1 else scale  # small images grow by a whole factor, and stay sharp
    cell = max(1, round(width * scale)), max(1, round(height * scale))
    font = ImageFont.load_default(_FONT)
    left = max(round(font.getlength(name)) for name in names) + 2 * _GAP
    size = left + _COLUMNS * (cell[0] + _GAP), _GAP + len(names) * (max(cell[1], _FONT) + _GAP)
    sheet = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(sheet)
    for number, (name, row) in enumerate(zip(names, rows, strict=True)):
        top = _GAP + number * (max(cell[1], _FONT) + _GAP)
        pen.text((_GAP, top + cell[1] // 2), name, "black", font, anchor="lm")
        samples = dataset.read(row[: _COLUMNS // len(fields)], fields)
        images = [image for sample in zip(*samples.values(), strict=True) for image in sample]
        for column, image in enumerate(images):
            thumbnail = _on_white(image).resize(
                cell, Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.LANCZOS
            )
            sheet.paste(thumbnail, (left + column * (cell[0] + _GAP), top))
    try:
        sheet.save(path, "PNG")
    except OSError as error:
        raise DataError(
            f"{path}: the contact sheet cannot be written ({error.strerror}); choose another --out"
        ) from None


def picture_fields(manifest: Manifest) -> tuple[str, ...]:
    """Return the names of the fields that can be shown as pictures."""
    fields = manifest.fields.items()
    return tuple(name for name, spec in fields if (spec.kind, spec.dtype) == ("image", "uint8") and spec.shape[0] <= 4)


def _first_of_each_class(dataset: ShardDataset) -> list[list[Location]]:
    """Find the first samples of each class, a row each; where there are no classes, the first ones in a few rows."""
    manifest = dataset.manifest
    if not manifest.classes:
        first = list(islice(dataset.locations(), _ROWS_WITHOUT_CLASSES * _COLUMNS))
        return [first[row * _COLUMNS : (row + 1) * _COLUMNS] for row in range(_ROWS_WITHOUT_CLASSES)]
    found: list[list[Location]] = [[] for _ in manifest.classes]
    for number in range(len(manifest.shards)):
        wanted = [label for label in manifest.class_counts.of(number)[0] if len(found[label]) < _COLUMNS]
        labels = dataset.labels_of(number) if wanted else None
        for label in wanted:
            rows = np.flatnonzero(labels == label)[: _COLUMNS - len(found[label])]
            found[label] += [Location(number, int(row)) for row in rows]
        if all(len(row) == _COLUMNS for row in found):
            break
    return found


def _on_white(image: Pixels) -> Image.Image:
    """Return an image, uint8 [C, H, W], as RGB; transparency lies on white."""
    picture = Image.fromarray(image[0] if len(image) == 1 else np.ascontiguousarray(image.transpose(1, 2, 0)))
    if len(image) in (1, 3):
        return picture.convert("RGB")
    white = Image.new("RGBA", picture.size, "white")
    white.alpha_composite(picture.convert("RGBA"))
    return white.convert("RGB")
