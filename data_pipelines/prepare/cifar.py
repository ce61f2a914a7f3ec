"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009), 32x32 RGB, from the binary version or the python version."""

import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from data_pipelines.codec import Pixels
from data_pipelines.errors import DataError
from data_pipelines.files import read_at_most
from data_pipelines.prepare import batches_of_cifar as python
from data_pipelines.prepare.arrays import from_arrays
from data_pipelines.prepare.fetch import Archive
from data_pipelines.source import Source

CACHE = Path("~/.cache/bigtrain/cifar")
LARGEST = 2**28
"""Bytes of a file in the archive; the largest one, CIFAR-100's training set, has 153,700,000."""
_PIXELS = 3 * 32 * 32


@dataclass(frozen=True)
class Variant:
    """One of the two sets.

    Attributes:
        name: as people write it.
        archive: the official one.
        files: by split.
        names: file with the names of the classes.
        label_bytes: bytes before an image's pixels; the last is the class.
    """

    name: str
    archive: Archive
    files: dict[str, tuple[str, ...]]
    names: str
    label_bytes: int


CIFAR10 = Variant(
    "cifar10",
    Archive(
        "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
        "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    ),
    {"train": tuple(f"data_batch_{number}.bin" for number in range(1, 6)), "test": ("test_batch.bin",)},
    "batches.meta.txt",
    1,
)
CIFAR100 = Variant(
    "cifar100",
    Archive(
        "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
        "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
    ),
    {"train": ("train.bin",), "test": ("test.bin",)},
    "fine_label_names.txt",
    2,
)

ARCHIVES = tuple(variant.archive.name for variant in (CIFAR10, CIFAR100))
"""Names of the binary archives."""


def fetched(variant: Variant, split: str = "all", *, cache: Path = CACHE) -> Source:
    """Return the official set, fetched if it is not in the cache."""
    return from_cifar(variant.archive.fetched(cache), split)


def from_cifar(path: Path, split: str = "all") -> Source:
    """Return the images of the binary or the python version: its archive, or a folder with its files.

    Raises:
        DataError: files are missing or of a wrong length.
    """
    contents = _read_files(path)
    variant = next((variant for variant in (CIFAR10, CIFAR100) if variant.names in contents), None)
    mark = next((mark for mark in python.MARKS if mark in contents), None)
    if variant is None and mark is not None:
        return _from_pickles(path, split, contents, mark)
    if variant is None:
        raise DataError(f"{path}: neither {CIFAR10.names} nor {CIFAR100.names} in it: not a version of CIFAR")
    files = [file for part in variant.files if split in (part, "all") for file in variant.files[part]]
    classes = contents[variant.names].decode().split()
    if missing := [file for file in files if file not in contents]:
        raise DataError(f"{path}: {', '.join(missing)} missing")
    parts = [_parse(path, file, contents[file], variant, len(classes)) for file in files]
    images, labels = (np.concatenate(values) for values in zip(*parts, strict=True))
    licence = "not stated by its authors"
    return from_arrays(variant.name, images, labels, classes=classes, licence=licence, origin=variant.archive.url)


def _from_pickles(path: Path, split: str, contents: dict[str, bytes], mark: str) -> Source:
    """Return the images of the python version."""
    variant = CIFAR10 if mark == "batches.meta" else CIFAR100
    files = [file for part, some in python.PARTS[mark].items() if split in (part, "all") for file in some]
    if missing := [file for file in files if file not in contents]:
        raise DataError(f"{path}: {', '.join(missing)} missing")
    classes = python.read_names(f"{path}: {mark}", contents[mark], mark)
    parts = [python.read_batch(f"{path}: {file}", contents[file], mark) for file in files]
    images, labels = (np.concatenate(values) for values in zip(*parts, strict=True))
    if labels.max() >= len(classes):
        raise DataError(f"{path}: contains class {labels.max()}, but there are {len(classes)} classes")
    licence = "not stated by its authors"
    return from_arrays(variant.name, images, labels, classes=classes, licence=licence, origin=str(path))


def _parse(path: Path, file: str, data: bytes, variant: Variant, classes: int) -> tuple[Pixels, NDArray[np.uint8]]:
    """Return images [N, 3, 32, 32] and labels [N] of one file: a row is the label bytes, then red, green, blue."""
    row = variant.label_bytes + _PIXELS
    if not data or len(data) % row:
        raise DataError(f"{path}: {file} has {len(data)} bytes, expected a multiple of {row}")
    rows = np.frombuffer(data, dtype=np.uint8).reshape(-1, row)
    labels = rows[:, variant.label_bytes - 1]
    if labels.max() >= classes:
        raise DataError(f"{path}: {file} contains class {labels.max()}, but there are {classes} classes")
    return rows[:, variant.label_bytes :].reshape(-1, 3, 32, 32), labels


def _read_files(path: Path) -> dict[str, bytes]:
    """Return the content of the files of a version in a folder or an archive, by name."""
    if path.is_dir():
        return {file.name: file.read_bytes() for file in sorted(path.iterdir()) if _is_of_a_version(file.name)}
    contents = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                name = member.name.rpartition("/")[2]
                file = archive.extractfile(member) if member.isfile() else None
                if file is not None and _is_of_a_version(name):
                    contents[name] = read_at_most(cast("BinaryIO", file), LARGEST)
    except ValueError as error:
        raise DataError(f"{path}: {name}: {error}, which CIFAR's files do not have") from None
    except (tarfile.TarError, OSError, EOFError) as error:
        raise DataError(f"{path}: not a complete tar archive ({error})") from None
    return contents


def _is_of_a_version(name: str) -> bool:
    pickles = {file for parts in python.PARTS.values() for files in parts.values() for file in files}
    return name.endswith((".bin", ".txt")) or name in python.MARKS or name in pickles
