"""What samples become: a grid of pictures, a folder of files, an npz file, labelled shards.

Every rank puts its samples into a sink as they come; when all are there, rank 0 makes of them what was asked for.
"""

import os
import re
import zipfile
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from bigtrain.core.errors import UserError
from bigtrain.generate.displays import displayed
from bigtrain.generate.pictures import image_grid
from bigtrain.generate.surfaces import has_surface, obj_of
from data_pipelines import protocol
from data_pipelines.fields.kind import Value
from data_pipelines.fields.registry import kind_of
from data_pipelines.fields.spec import FieldSpec
from data_pipelines.files import atomic_write
from data_pipelines.source import Item, Source
from data_pipelines.write import write_shards

_PICTURES = (".png", ".jpg", ".jpeg", ".webp")
_OPENED_BY_MOST = {"array": ("ply",), "audio": ("wav",), "video": ("h264",)}
"""Kind of field -> codecs that most programs open, where the kind's first codec is another."""

_BATCHES_WAITING = 2
"""Batches that may wait to be encoded: memory is bounded, and a full disk is noticed soon."""


class OutputError(UserError):
    """Samples cannot be written where or how they are asked for."""


@dataclass(frozen=True)
class Samples:
    """Samples and what they are made of.

    Attributes:
        partial: folder for what is not done, where all ranks see it.
        spec: of the field that is generated.
        seeds: of each.
        labels: class index of each; None without classes.
        class_names: may be fewer than there are classes: imported generators have none.
        origin: what made them, in words.
        columns: samples a row of a grid.
    """

    partial: Path
    spec: FieldSpec
    seeds: Sequence[int] = field(repr=False)
    labels: Sequence[int] | None = field(repr=False)
    class_names: tuple[str, ...]
    origin: str
    columns: int

    @property
    def file(self) -> Path:
        """Of the samples as they are stored, `.npy`, shape [N, *spec.shape]."""
        return self.partial / "samples.npy"

    @property
    def arrays(self) -> Value:
        """The samples of the file, read as they are needed."""
        opened: Value = np.load(self.file, mmap_mode="r")
        return opened

    @property
    def files(self) -> Path:
        """Folder of a file a sample."""
        return self.partial / "files"

    @cached_property
    def file_spec(self) -> FieldSpec:
        """The field as it is in a sample's own file: of the codec that most programs open."""
        kind = kind_of(self.spec)
        for codec in (*_OPENED_BY_MOST.get(self.spec.kind, ()), *kind.codecs):
            spec = replace(self.spec, codec=codec)
            try:
                kind.check(spec)
            except ValueError:
                continue
            return spec
        raise OutputError(f"fields of the kind '{self.spec.kind}' have no files; use --format npz")

    def path(self, number: int) -> Path:
        """Return a sample's own file, in a folder a class where there are classes."""
        folder = "." if self.labels is None else class_folder(self.labels[number], self.class_names)
        suffix = kind_of(self.spec).suffix(self.file_spec)
        return self.files / folder / f"seed{self.seeds[number]:07d}.{suffix}"


class Sink(Protocol):
    """Takes the samples of one rank."""

    def put(self, rows: range, samples: Value, *, wait: bool = False) -> None:
        """Take samples.

        Args:
            rows: their numbers.
            samples: as they are stored, shape [len(rows), *spec.shape].
            wait: until they are written, where generating the next would need the same cores.
        """

    def finish(self) -> None:
        """Wait until all of them are written."""


class ArrayFile:
    """Writes samples into their common file; see Sink."""

    def __init__(self, samples: Samples) -> None:
        self._array = np.lib.format.open_memmap(samples.file, "r+")

    @staticmethod
    def begin(samples: Samples) -> None:
        """Make the file."""
        shape = (len(samples.seeds), *samples.spec.shape)
        np.lib.format.open_memmap(samples.file, "w+", dtype=np.dtype(samples.spec.dtype), shape=shape).flush()

    def put(self, rows: range, samples: Value, *, wait: bool = False) -> None:
        """See Sink."""
        self._array[rows.start : rows.stop] = samples

    def finish(self) -> None:
        """See Sink."""
        self._array.flush()


class Files:
    """Writes a file a sample, of a volume also its surface, in threads, while others are generated; see Sink."""

    def __init__(self, samples: Samples) -> None:
        self._samples = samples
        self._threads = ThreadPoolExecutor(_cores())
        self._waiting: deque[list[Future[None]]] = deque()

    @staticmethod
    def begin(samples: Samples) -> None:
        """Make the folders."""
        for folder in {samples.path(number).parent for number in range(len(samples.seeds))}:
            folder.mkdir(parents=True, exist_ok=True)

    def put(self, rows: range, samples: Value, *, wait: bool = False) -> None:
        """See Sink."""
        self._waiting.append(
            [self._threads.submit(self._write, number, sample) for number, sample in zip(rows, samples, strict=True)]
        )
        self._settle(0 if wait else _BATCHES_WAITING)

    def finish(self) -> None:
        """See Sink."""
        self._settle(0)
        self._threads.shutdown()

    def _settle(self, left: int) -> None:
        """Wait until no more than `left` batches are waiting."""
        while len(self._waiting) > left:
            for written in self._waiting.popleft():
                written.result()

    def _write(self, number: int, sample: Value) -> None:
        spec, path = self._samples.file_spec, self._samples.path(number)
        path.write_bytes(kind_of(spec).encode(spec, sample))
        if has_surface(spec):
            path.with_suffix(".obj").write_bytes(obj_of(sample))


@dataclass(frozen=True)
class _FileReader:
    """Samples of an `.npy` file; crosses to other processes as its path."""

    file: Path

    def read(self, where: int) -> Value:
        """Return sample number `where`."""
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
        raise OutputError(f"{out}: a grid is a picture; its name ends in {', '.join(_PICTURES)}")
    if asked == "npz" and usual != "npz":
        raise OutputError(f"{out}: the name of the file ends in .npz")
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
    stored = torch.from_numpy(np.array(samples.arrays))
    pictures = displayed(kind_of(samples.spec).normalise(samples.spec, stored), samples.spec)
    Image.fromarray(image_grid(pictures, samples.columns)).save(out)


def _write_npz(samples: Samples, out: Path) -> None:
    """Write `arr_0`, `seeds` and `labels`; images as [N, H, W, C], as the usual evaluators of samples read them."""
    arrays: dict[str, NDArray[Any]] = {
        "arr_0": samples.arrays.transpose(0, 2, 3, 1) if samples.spec.kind == "image" else samples.arrays,
        "seeds": np.array(samples.seeds, dtype=np.int64),
    }
    if samples.labels is not None:
        arrays["labels"] = np.array(samples.labels, dtype=np.int64)
        arrays["class_names"] = np.array(samples.class_names, dtype=np.str_)
    with atomic_write(out) as file, zipfile.ZipFile(file, "w", allowZip64=True) as archive:
        for name, array in arrays.items():  # np.savez would lay the images out in memory first
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def _move_files(samples: Samples, out: Path) -> None:
    if out.is_dir():
        out.rmdir()  # empty, see check_free
    samples.files.rename(out)


def _write_shards(samples: Samples, out: Path) -> None:
    """Write a dataset like those that `bigtrain data prepare` makes."""
    spec = samples.spec
    labels = samples.labels or [-1] * len(samples.seeds)
    classes = max(labels) + 1 if samples.labels is not None else 0
    names = samples.class_names if len(samples.class_names) >= classes else [str(index) for index in range(classes)]
    source = Source(
        name=out.name,
        items=[Item(f"seed {seed}", number, labels[number]) for number, seed in enumerate(samples.seeds)],
        reader=_FileReader(samples.file),
        classes=tuple(names),
        licence="generated",
        origin=samples.origin,
        **_form_of(spec),
    )
    write_shards(source, out, workers=_cores())


def _form_of(spec: FieldSpec) -> dict[str, Any]:
    """Return what a source says of its field: images go through a protocol, other kinds are stored as they are."""
    if spec.kind == "image":
        channels, height, width = spec.shape
        return {"usual": protocol.ImageProtocol(height, width, channels, crop="exact")}
    return {"images": (), "fields": {spec.kind: replace(spec, codec=next(iter(kind_of(spec).codecs)))}}


@dataclass(frozen=True)
class Output:
    """A form of output.

    Attributes:
        sink: makes a rank's sink.
        begin: prepares for the sinks, on rank 0.
        finish: makes what was asked for, on rank 0.
    """

    sink: Callable[[Samples], Sink]
    begin: Callable[[Samples], None]
    finish: Callable[[Samples, Path], None]


FORMATS = {
    "grid": Output(ArrayFile, ArrayFile.begin, _write_grid),
    "folder": Output(Files, Files.begin, _move_files),
    "npz": Output(ArrayFile, ArrayFile.begin, _write_npz),
    "shards": Output(ArrayFile, ArrayFile.begin, _write_shards),
}


def class_folder(label: int, class_names: Sequence[str]) -> str:
    """Return a name for a class's folder that sorts by index and is safe in any file system."""
    name = class_names[label] if label < len(class_names) else ""
    return f"{label:03d}-{re.sub(r'[^0-9A-Za-z]+', '-', name).strip('-').lower()}".removesuffix("-")


def _cores() -> int:
    return len(os.sched_getaffinity(0))
