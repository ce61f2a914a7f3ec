"""The index of a shard: where each sample's members lie in the tar, its class and its checksum.

A structured NumPy array beside the tar, readable with `numpy.load`; it makes every sample reachable in one read.
"""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_pipelines.errors import DataError
from data_pipelines.files import atomic_write

Index = NDArray[np.void]


def index_dtype(fields: Sequence[str], members: Sequence[str] = ()) -> np.dtype[np.void]:
    """Return the type of a row.

    Class index (-1 if unlabelled); then for each stored field, and for each further member, its first byte in the tar,
    its length (0 where the sample has none) and the CRC-32 of its bytes.
    """
    columns = [("label", "<i4")]
    for name in (*fields, *members):
        columns += [(f"{name}.offset", "<u8"), (f"{name}.size", "<u4"), (f"{name}.crc32", "<u4")]
    return np.dtype(columns)


def index_dtype_3(members: Sequence[str] = ()) -> np.dtype[np.void]:
    """Return the type of a row in format 3: the image, the class, then the further members, without checksums."""
    columns = [("offset", "<u8"), ("size", "<u4"), ("label", "<i4"), ("crc32", "<u4")]
    for name in members:
        columns += [(f"{name}.offset", "<u8"), (f"{name}.size", "<u4")]
    return np.dtype(columns)


def save_index(path: Path, rows: Sequence[tuple[int, ...]], dtype: np.dtype[np.void]) -> None:
    """Write an index, atomically."""
    with atomic_write(path) as file:
        np.save(file, np.array(rows, dtype=dtype))


def load_index(path: Path, dtype: np.dtype[np.void]) -> Index:
    """Read an index.

    Its header must be, to the byte, the one that NumPy writes; NumPy's own way of reading it goes through Python's
    parser, which fails now and then when several threads use it at once (SystemError, CPython 3.11).

    Raises:
        DataError: missing, damaged or without just these columns.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: the shard's index is missing (see: bigtrain data verify {path.parent})") from None
    except OSError as error:
        raise DataError(f"{path}: damaged index ({error})") from None
    start = 10 + int.from_bytes(content[8:10], "little")
    count, left_over = divmod(len(content) - start, dtype.itemsize)
    if not content.startswith(b"\x93NUMPY") or count < 0:
        raise DataError(f"{path}: damaged index (it is not a NumPy file)")
    if content[:start] != _header(dtype, count) or left_over:
        raise DataError(f"{path}: truncated, or not an index of this format, with {', '.join(dtype.names or ())}")
    return np.frombuffer(content, dtype=dtype, offset=start)


def _header(dtype: np.dtype[np.void], count: int) -> bytes:
    """Return the first bytes of a `.npy` file of so many rows."""
    stream = io.BytesIO()
    descr = np.lib.format.dtype_to_descr(dtype)
    np.lib.format.write_array_header_1_0(stream, {"descr": descr, "fortran_order": False, "shape": (count,)})
    return stream.getvalue()
