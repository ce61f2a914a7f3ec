"""The index of a shard: where each sample's members lie in the tar, its class and its checksum.

A structured NumPy array beside the tar, readable with `numpy.load`; it makes every sample reachable in one read.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_pipelines.errors import DataError
from data_pipelines.files import atomic_write

Index = NDArray[np.void]


def index_dtype(fields: Sequence[str] = ()) -> np.dtype[np.void]:
    """Return the type of a row.

    First byte of the image in the tar, its length, class index (-1 if unlabelled), CRC-32 of its bytes; then for each
    field the first byte and the length of its member (length 0 where the sample has none).
    """
    columns: list[tuple[str, str]] = [("offset", "<u8"), ("size", "<u4"), ("label", "<i4"), ("crc32", "<u4")]
    for field in fields:
        columns += [(f"{field}.offset", "<u8"), (f"{field}.size", "<u4")]
    return np.dtype(columns)


def save_index(path: Path, rows: Sequence[tuple[int, ...]], fields: Sequence[str] = ()) -> None:
    """Write an index, atomically."""
    with atomic_write(path) as file:
        np.save(file, np.array(rows, dtype=index_dtype(fields)))


def load_index(path: Path, fields: Sequence[str] = ()) -> Index:
    """Read an index, as a memory map: ranks of a node share one copy.

    Raises:
        DataError: missing, damaged or without just these fields.
    """
    try:
        rows: Any = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise DataError(f"{path}: the shard's index is missing (see: bigtrain data verify {path.parent})") from None
    except (ValueError, OSError, EOFError) as error:
        raise DataError(f"{path}: damaged index ({error})") from None
    if rows.dtype != index_dtype(fields) or rows.ndim != 1:
        raise DataError(f"{path}: not an index of this format, with the fields {', '.join(fields) or '(none)'}")
    index: Index = rows
    return index
