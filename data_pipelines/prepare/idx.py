"""The idx format of the MNIST family (LeCun et al. 1998)."""

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from data_pipelines.codec import Pixels
from data_pipelines.errors import DataError
from data_pipelines.files import read_at_most
from data_pipelines.prepare.arrays import from_arrays
from data_pipelines.source import Source

LARGEST = 2**30
"""Bytes of an unpacked file, twice as many as EMNIST's largest has."""
_SPLITS = {"train": ("train",), "test": ("t10k", "test"), "all": ("train", "t10k", "test")}


def from_idx(path: Path, split: str = "all") -> Source:
    """Return the images of a folder with `train-images-idx3-ubyte[.gz]`, `train-labels-idx1-ubyte[.gz]`, `t10k-...`.

    Raises:
        DataError: a file is missing or damaged, or there is no such split.
    """
    pairs = [pair for prefix in _SPLITS[split] if (pair := _read_split(path, prefix)) is not None]
    if not pairs:
        raise DataError(f"{path}: no {' or '.join(_SPLITS[split])}-images-idx3-ubyte[.gz] in it")
    images, labels = (np.concatenate(values) for values in zip(*pairs, strict=True))
    classes = [str(number) for number in range(int(labels.max(initial=0)) + 1)]
    return from_arrays(path.name, images, labels, classes=classes, origin=str(path))


def _read_split(folder: Path, prefix: str) -> tuple[Pixels, NDArray[np.uint8]] | None:
    """Return the images [N, 1, H, W] and labels of one split; None if it is not there."""
    found = _find(folder, f"{prefix}-images-idx3-ubyte")
    if found is None:
        return None
    labels_file = _find(folder, f"{prefix}-labels-idx1-ubyte")
    if labels_file is None:
        raise DataError(f"{folder}: {prefix}-labels-idx1-ubyte[.gz] is missing")
    images, labels = read_idx(found), read_idx(labels_file)
    if images.ndim != 3 or labels.shape != images.shape[:1]:
        raise DataError(f"{found}: images {images.shape} and labels {labels.shape} do not match")
    return images[:, None], labels


def _find(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Read an idx file of unsigned bytes, gzipped or not, of any number of dimensions.

    Raises:
        DataError: missing, not gzip, not idx, or shorter than its header says.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            data = read_at_most(cast("BinaryIO", file), LARGEST)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except ValueError as error:
        raise DataError(f"{path}: {error}, which idx files do not have") from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: not a complete gzip file ({error})") from None
    if len(data) < 4 or data[:3] != b"\0\0\x08" or len(data) < 4 + 4 * data[3]:
        raise DataError(f"{path}: not an idx file of unsigned bytes")
    dimensions = data[3]
    shape = struct.unpack_from(f">{dimensions}I", data, 4)
    values = np.frombuffer(data, dtype=np.uint8, offset=4 + 4 * dimensions)
    if values.size != math.prod(shape):
        raise DataError(f"{path}: {values.size} values, its header says {'x'.join(map(str, shape))}")
    return values.reshape(shape)
