"""Show a dataset to a person: a table and a contact sheet."""

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from rich.table import Table

from bigtrain.core.logging import console
from bigtrain.pictures import image_grid
from data_pipelines.faults import Fault
from data_pipelines.manifest import Manifest
from data_pipelines.order import Location
from data_pipelines.read import ShardDataset

_COLUMNS = 12


def describe(manifest: Manifest) -> None:
    """Print a table of what the manifest says."""
    table = Table(show_header=False, box=None)
    rows = {
        "name": manifest.name,
        "images": f"{manifest.count:,} of {'x'.join(map(str, manifest.shape))}",
        "shards": f"{len(manifest.shards)}, {manifest.bytes / 2**20:.1f} MiB, {manifest.codec}",
        "protocol": manifest.protocol,
        "source": manifest.source,
        "licence": manifest.licence,
        "digest": manifest.digest,
    }
    for name, value in rows.items():
        table.add_row(name, value)
    for name, count in zip(manifest.classes, manifest.class_histogram, strict=True):
        table.add_row(f"class {manifest.classes.index(name)}", f"{name}, {count:,}")
    console.print(table)


def show_faults(faults: Sequence[Fault]) -> None:
    """Print a table of what is wrong with a dataset, if anything is."""
    if not faults:
        return
    table = Table("shard", "sample", "problem", box=None)
    for fault in faults:
        table.add_row(fault.file, "" if fault.row is None else str(fault.row), fault.problem)
    console.print(table, markup=False)


def write_contact_sheet(dataset: ShardDataset) -> Path:
    """Write `contact_sheet.png` into the dataset's folder: the first images of each class, one row a class."""
    rows = max(len(dataset.manifest.classes), 1)
    found: list[list[Location]] = [[] for _ in range(rows)]
    for location in dataset.locations():
        row = found[max(dataset.label(location), 0)]
        if len(row) < _COLUMNS:
            row.append(location)
        if all(len(row) == _COLUMNS for row in found):
            break
    sheet = torch.full((rows * _COLUMNS, *dataset.manifest.shape), 255, dtype=torch.uint8)
    for number, row in enumerate(found):
        images, _ = dataset.read(row)
        sheet[number * _COLUMNS : number * _COLUMNS + len(row)] = torch.from_numpy(images)
    path = dataset.folder / "contact_sheet.png"
    Image.fromarray(image_grid(sheet, _COLUMNS)).save(path)
    return path
