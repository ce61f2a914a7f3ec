"""Raw NumPy files: read and written bit for bit, and without NumPy's parser of headers."""

import io
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_pipelines.fields.decoder import FieldDecoder

MAGIC = b"\x93NUMPY"


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

    Raises:
        ValueError: it is not one, is cut off, or holds Python objects.
    """
    if not content.startswith(MAGIC):
        raise ValueError("not a NumPy file (.npy)")
    stream = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(stream)
        if math.prod(shape) * dtype.itemsize > len(content):  # NumPy would take the memory before it looks
            raise ValueError(f"{len(content)} bytes, but the header says {dtype.name} {shape}")
        array: NDArray[Any] = np.load(io.BytesIO(content), allow_pickle=False)
    except (EOFError, OSError, SyntaxError) as error:
        raise ValueError(f"unreadable NumPy file ({error})") from None
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _header(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    stream = io.BytesIO()
    descr = np.lib.format.dtype_to_descr(dtype)
    np.lib.format.write_array_header_1_0(stream, {"descr": descr, "fortran_order": False, "shape": shape})
    return stream.getvalue()
