"""Raw NumPy files: read and written bit for bit, and without NumPy's parser of headers."""

import io
import math
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_pipelines.fields.decoder import FieldDecoder

MAGIC = b"\x93NUMPY"
_DESCR = r"""['"]descr['"]\s*:\s*['"]([^'",]*)['"]"""
_FORTRAN_ORDER = r"""['"]fortran_order['"]\s*:\s*(True|False)"""
_SHAPE = r"""['"]shape['"]\s*:\s*\(([\d\sL,]*)\)"""
"""Of the header, which is a dictionary of Python. Python 2 wrote lengths with an L."""

_HEADER_BYTES = 10_000
"""More than NumPy itself accepts by default is an attack on the reader, or not an array."""


class NpyDecoder(FieldDecoder):
    """Copies arrays from `.npy` files that `encode_npy` has written.

    Its header must be, to the byte, the one that NumPy writes. NumPy's own way of reading it goes through Python's
    parser, which costs more than the copy, and fails now and then when several threads use it at once (SystemError,
    CPython 3.11).
    """

    def __init__(self, shape: tuple[int, ...], dtype: str) -> None:
        super().__init__(shape, dtype)
        self._header = _header(shape, self.dtype)

    def decode(self, data: memoryview, out: NDArray[Any]) -> None:
        """See FieldDecoder."""
        start = len(self._header)
        if bytes(data[:start]) != self._header or len(data) != start + self.bytes:
            found = bytes(data[10:start])
            raise ValueError(f"{len(data)} bytes with the header {found!r} are not {self.dtype.name} {self.shape}")
        out[...] = np.frombuffer(data, self.dtype, offset=start).reshape(self.shape)


def encode_npy(value: NDArray[Any]) -> bytes:
    """Return the `.npy` file of an array, in the order of C, little-endian."""
    value = np.asarray(value, value.dtype.newbyteorder("<"), order="C")
    return _header(value.shape, value.dtype) + value.tobytes()


def read_npy(content: bytes) -> NDArray[Any]:
    """Return the array of anybody's `.npy` file, in this machine's byte order; nothing is unpickled.

    NumPy's own way of reading the header is not used, see NpyDecoder.

    Raises:
        ValueError: it is not one, is cut off, or holds Python objects or records.
    """
    if not content.startswith(MAGIC):
        raise ValueError("not a NumPy file (.npy)")
    start = 10 if content[6:7] == b"\1" else 12  # the header's length has 2 bytes, or 4
    end = start + int.from_bytes(content[8:start], "little")
    if end - start > _HEADER_BYTES:
        raise ValueError(f"unreadable NumPy file: a header of {end - start} bytes, more than {_HEADER_BYTES}")
    header = content[start:end].decode("latin-1")
    descr, order, shape = (re.search(pattern, header) for pattern in (_DESCR, _FORTRAN_ORDER, _SHAPE))
    if descr is None or order is None or shape is None:
        raise ValueError(f"unreadable NumPy file: its header is {header[:80]!r}")
    dtype = _dtype(descr[1])
    sides = [int(side) for side in re.findall(r"\d+", shape[1])]
    if math.prod(sides) * dtype.itemsize > len(content) - end:
        raise ValueError(f"{len(content)} bytes, but the header says {dtype.name} {tuple(sides)}")
    try:
        values = np.frombuffer(content, dtype, math.prod(sides), end)
        array = values.reshape(sides, order="F" if order[1] == "True" else "C")
    except (TypeError, OverflowError) as error:
        raise ValueError(f"unreadable NumPy file ({error})") from None
    return array.astype(dtype.newbyteorder("="))


def _dtype(descr: str) -> np.dtype[Any]:
    """Return the dtype of plain values that a header describes."""
    try:
        dtype = np.dtype(descr.strip())
    except (TypeError, ValueError, SyntaxError):
        raise ValueError(f"unreadable NumPy file: its header has the unknown dtype {descr[:80]!r}") from None
    if dtype.hasobject:
        raise ValueError("unreadable NumPy file: it holds Python objects, which are not unpickled")
    if dtype.kind == "V":
        raise ValueError(f"unreadable NumPy file: it holds {descr[:80]}, not numbers")
    return dtype


def _header(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    stream = io.BytesIO()
    descr = np.lib.format.dtype_to_descr(dtype)
    np.lib.format.write_array_header_1_0(stream, {"descr": descr, "fortran_order": False, "shape": shape})
    return stream.getvalue()
