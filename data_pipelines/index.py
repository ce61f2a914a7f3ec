"""The index of a shard: where each sample's image lies in the tar, its class and its checksum.

A structured NumPy array beside the tar, readable with `numpy.load`; it makes every sample reachable in one read.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_pipelines.errors import DataError
from data_pipelines.files import atomic_write

SAMPLE = np.dtype([("offset", "<u8"), ("size", "<u4"), ("label", "<i4"), ("crc32", "<u4")])
"""A row: first byte of the image in the tar, its length, class index (-1 if unlabelled), CRC-32 of its bytes."""

Index = NDArray[np.void]


def save_index(path: Path, rows: list[tuple[int, int, int, int]]) -> None:
    """Write an index, atomically."""
    with atomic_write(path) as file:
        np.save(file, np.array(rows, dtype=SAMPLE))


def load_index(path: Path) -> Index:
    """Read an index, as a memory map: ranks of a node share one copy.

    Raises:
        DataError: missing or damaged.
    """
    try:
        rows: Index = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise DataError(f"{path}: the shard's index is missing (see: bigtrain data verify {path.parent})") from None
    except (ValueError, OSError, EOFError) as error:
        raise DataError(f"{path}: damaged index ({error})") from None
    if rows.dtype != SAMPLE or rows.ndim != 1:
        raise DataError(f"{path}: not an index of this format")
    return rows
