"""What samples become: a grid, a folder of files, an npz file, labelled shards."""

import os
import re
import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from bigtrain.core.errors import UserError
from bigtrain.pictures import image_grid
from data_pipelines.codec import Pixels, encode
from data_pipelines.files import atomic_write
from data_pipelines.protocol import Protocol
from data_pipelines.source import Item, Source
from data_pipelines.write import write_shards

_PICTURES = (".png", ".jpg", ".jpeg", ".webp")


class OutputError(UserError):
    """Samples cannot be written where or how they are asked for."""


@dataclass(frozen=True)
class Samples:
    """Images and what they were made of.

    Attributes:
        file: of the images, `.npy`, uint8, shape [N, C, H, W].
        seeds: of each.
        labels: class index of each; None without classes.
        class_names: may be fewer than there are classes: imported generators have none.
        origin: what made them, in words.
        columns: images a row of a grid.
    """

    file: Path
    seeds: Sequence[int] = field(repr=False)
    labels: Sequence[int] | None = field(repr=False)
    class_names: tuple[str, ...]
    origin: str
    columns: int

    @property
    def images(self) -> Pixels:
        """The images, read as they are needed."""
        opened: Pixels = np.load(self.file, mmap_mode="r")
        return opened


@dataclass(frozen=True)
class _FileReader:
    """Images of an `.npy` file; crosses to other processes as its path."""

    file: Path

    def read(self, where: int) -> Pixels:
        """Return image number `where`."""
        return np.array(np.load(self.file, mmap_mode="r")[where])


def format_of(out: Path, asked: str | None) -> str:
    """Return the form that a user asks for, by name or by the ending of `out`.

    Raises:
        OutputError: there is no such form, or the ending is another's.
    """
    suffix = out.suffix.lower()
    usual = "grid" if suffix in _PICTURES else "npz" if suffix == ".npz" else "folder"
    if asked is None:
        return usual
    if asked not in FORMATS:
        raise OutputError(f"--format {asked!r}: use {', '.join(FORMATS)}")
    if asked == "grid" and usual != "grid":
        raise OutputError(f"{out}: a grid is a picture; end it in {', '.join(_PICTURES)}")
    if asked == "npz" and usual != "npz":
        raise OutputError(f"{out}: end it in .npz")
    return asked


def check_free(out: Path, format_: str) -> None:
    """See that nothing is in the way.

    Raises:
        OutputError: a folder is there that holds something, or something of the other kind.
    """
    if format_ in ("folder", "shards") and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputError(f"{out}: exists and is not empty; choose another --out")
    if format_ in ("grid", "npz") and out.is_dir():
        raise OutputError(f"{out}: is a folder")


def _write_grid(samples: Samples, out: Path) -> None:
    grid = image_grid(torch.from_numpy(np.array(samples.images)), samples.columns)
    Image.fromarray(grid).save(out)


def _write_npz(samples: Samples, out: Path) -> None:
    """Write `arr_0` (uint8, [N, H, W, C], as the usual evaluators of samples read it), `seeds` and `labels`."""
    arrays: dict[str, NDArray[Any]] = {
        "arr_0": samples.images.transpose(0, 2, 3, 1),
        "seeds": np.array(samples.seeds, dtype=np.int64),
    }
    if samples.labels is not None:
        arrays["labels"] = np.array(samples.labels, dtype=np.int64)
        arrays["class_names"] = np.array(samples.class_names, dtype=np.str_)
    with atomic_write(out) as file, zipfile.ZipFile(file, "w", allowZip64=True) as archive:
        for name, array in arrays.items():  # np.savez would lay the images out in memory first
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def _write_folder(samples: Samples, out: Path) -> None:
    """Write a PNG an image, in a folder a class where there are classes."""
    names = [f"seed{seed:07d}.png" for seed in samples.seeds]
    folders = ["."] * len(names)
    if samples.labels is not None:
        folders = [class_folder(label, samples.class_names) for label in samples.labels]
    for folder in set(folders):
        (out / folder).mkdir(parents=True, exist_ok=True)
    images = samples.images

    def write(number: int) -> None:
        (out / folders[number] / names[number]).write_bytes(encode(np.array(images[number]), "png"))

    with ThreadPoolExecutor(_cores()) as threads:
        list(threads.map(write, range(len(names))))


def _write_shards(samples: Samples, out: Path) -> None:
    """Write a dataset like those that `bigtrain data prepare` makes."""
    count, channels, height, width = samples.images.shape
    labels = samples.labels or [-1] * count
    classes = max(labels) + 1 if samples.labels is not None else 0
    names = samples.class_names if len(samples.class_names) >= classes else [str(index) for index in range(classes)]
    source = Source(
        name=out.name,
        items=[Item(f"seed {seed}", number, labels[number]) for number, seed in enumerate(samples.seeds)],
        reader=_FileReader(samples.file),
        classes=tuple(names),
        licence="generated",
        origin=samples.origin,
        usual=Protocol(height, width, channels, crop="exact"),
    )
    write_shards(source, out, workers=_cores())


FORMATS: dict[str, Callable[[Samples, Path], None]] = {
    "grid": _write_grid,
    "folder": _write_folder,
    "npz": _write_npz,
    "shards": _write_shards,
}
"""Each writes samples to a path."""


def class_folder(label: int, class_names: Sequence[str]) -> str:
    """Return a name for a class's folder that sorts by index and is safe in any file system."""
    name = class_names[label] if label < len(class_names) else ""
    return f"{label:03d}-{re.sub(r'[^0-9A-Za-z]+', '-', name).strip('-').lower()}".removesuffix("-")


def _cores() -> int:
    return len(os.sched_getaffinity(0))
