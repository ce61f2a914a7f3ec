"""Decoders of fields: files into the memory of a batch that is there already."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Fields = Mapping[str, NDArray[Any]]
"""Samples' fields by name; each an array whose first axis is that of the samples."""

_ALIGNMENT = 64
"""Bytes: where each array of a batch begins in shared memory, a cache line of its own."""


class FieldDecoder(ABC):
    """Decodes the files of one field; several threads may share it.

    Args:
        shape: of a sample's array.
        dtype: of the array.

    Attributes:
        together: files that are best handed to `decode_many` at once; no more, for they are held in memory meanwhile.
    """

    together = 1

    def __init__(self, shape: tuple[int, ...], dtype: str) -> None:
        self.shape: tuple[int, ...] = shape
        self.dtype = np.dtype(dtype)
        self._size = math.prod(shape)
        self.bytes = self.dtype.itemsize * self._size

    def batch(self, count: int, buffer: memoryview | None = None) -> NDArray[Any]:
        """Return memory for samples, shape [count, *shape]: `buffer`, or new memory."""
        return self._flat(count, buffer).reshape(count, *self.shape)

    def decode_many(self, files: Sequence[memoryview | None], out: NDArray[Any]) -> dict[int, ValueError]:
        """Decode files, leaving out those that are None, into `out`, shape [N, *shape].

        Returns:
            The errors of `decode` by the files' places.
        """
        errors = {}
        for place, file in enumerate(files):
            try:
                if file is not None:
                    self.decode(file, out[place, ...])
            except ValueError as error:
                errors[place] = error
        return errors

    @abstractmethod
    def decode(self, data: memoryview, out: NDArray[Any]) -> None:
        """Decode a file into `out`, one sample of a `batch`.

        Raises:
            ValueError: it is damaged, or not as it should be.
        """

    def _flat(self, count: int, buffer: memoryview | None) -> NDArray[Any]:
        size = count * self._size
        return np.empty(size, self.dtype) if buffer is None else np.frombuffer(buffer, self.dtype, size)


class ClassDecoder(FieldDecoder):
    """The class of a sample: it is no file, but a column of the index."""

    def __init__(self) -> None:
        super().__init__((), "int64")

    def decode(self, data: memoryview, out: NDArray[Any]) -> None:
        """Never called: there are no files.

        Raises:
            ValueError: always.
        """
        raise ValueError("a class is not stored as a file")


def new_batch(decoders: Mapping[str, FieldDecoder], count: int, buffer: memoryview | None = None) -> Fields:
    """Return memory for `count` samples of some fields: in `buffer`, one field behind the other, or new memory."""
    fields, start = {}, 0
    for name, decoder in decoders.items():
        part = None if buffer is None else buffer[start : start + count * decoder.bytes]
        fields[name] = decoder.batch(count, part)
        start += _aligned(count * decoder.bytes)
    return fields


def batch_bytes(decoders: Mapping[str, FieldDecoder], count: int) -> int:
    """Return the size of the buffer that `new_batch` needs."""
    return sum(_aligned(count * decoder.bytes) for decoder in decoders.values())


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
