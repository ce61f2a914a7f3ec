"""CIFAR's python version: pickles, read by an unpickler that knows how to make NumPy arrays of bytes, and nothing else.

A pickle may name any function and call it. The files of CIFAR name those that remake an array, the type of its numbers
and its bytes. Every other name is refused, and what stands for these makes plain arrays only.
"""

import io
import pickle
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from data_pipelines.errors import DataError

MARKS = ("batches.meta", "meta")
"""Files with the names of the classes, of CIFAR-10 and of CIFAR-100."""
PARTS: dict[str, dict[str, tuple[str, ...]]] = {
    "batches.meta": {
        "train": tuple(f"data_batch_{number}" for number in range(1, 6)),
        "test": ("test_batch",),
    },
    "meta": {"train": ("train",), "test": ("test",)},
}
"""Files by their mark and split."""
_LABELS = {"batches.meta": ("labels", "label_names"), "meta": ("fine_labels", "fine_label_names")}
_PIXELS = 3 * 32 * 32


def read_batch(name: str, content: bytes, mark: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return images, [N, 3, 32, 32], and labels, [N], of a file.

    Raises:
        DataError: it is no batch of CIFAR's python version.
    """
    batch = _load(name, content)
    pixels, labels = batch.get("data"), batch.get(_LABELS[mark][0])
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.shape[1:] != (_PIXELS,):
        raise DataError(f"{name}: no images of 32x32 pixels in it")
    if not isinstance(labels, list) or len(labels) != len(pixels):
        raise DataError(f"{name}: no label for each of its {len(pixels)} images")
    if not all(isinstance(label, int) and 0 <= label < 256 for label in labels):
        raise DataError(f"{name}: some labels are not classes")
    return pixels.reshape(-1, 3, 32, 32), np.array(labels, np.uint8)


def read_names(name: str, content: bytes, mark: str) -> list[str]:
    """Return the names of the classes.

    Raises:
        DataError: there are none.
    """
    names = _load(name, content).get(_LABELS[mark][1])
    if not isinstance(names, list) or not names:
        raise DataError(f"{name}: contains no names of classes")
    return [one.decode() if isinstance(one, bytes) else str(one) for one in names]


def _load(name: str, content: bytes) -> dict[str, Any]:
    try:
        found = _Unpickler(io.BytesIO(content), encoding="bytes").load()
    except DataError as error:
        raise DataError(f"{name}: {error}") from None
    except Exception as error:  # a damaged pickle raises whatever it comes to
        raise DataError(f"{name}: a damaged pickle ({error})") from None
    if not isinstance(found, dict):
        raise DataError(f"{name}: contains no mapping")
    return {key.decode() if isinstance(key, bytes) else str(key): _plain(value) for key, value in found.items()}


def _plain(value: Any) -> Any:
    return value.array() if isinstance(value, _Array) else value


class _Array:
    """What a pickle remakes an array in: only its state is looked at, when all has been read."""

    def __init__(self, *arguments: Any) -> None:
        self._state: Any = None

    def __setstate__(self, state: Any) -> None:
        self._state = state

    def array(self) -> NDArray[np.uint8]:
        """Return the array, of bytes in the order of C."""
        _, shape, kind, fortran, data = self._state
        if not isinstance(kind, _Kind) or kind.name not in (b"u1", "u1") or fortran:
            raise DataError("an array that does not consist of bytes")
        raw = data.encode("latin1") if isinstance(data, str) else data
        return np.frombuffer(raw, np.uint8).reshape(shape)


class _Kind:
    """What stands for the type of an array's numbers."""

    def __init__(self, name: Any = "", *arguments: Any) -> None:
        self.name = name

    def __setstate__(self, state: Any) -> None:
        """The order of the bytes does not matter for bytes."""


def _as_bytes(text: str, coding: str) -> bytes:
    """Return what Python 3 writes bytes as in the older protocols of pickle."""
    if coding != "latin1":
        raise DataError(f"refused: the pickle encodes a text as {coding!r}")
    return text.encode("latin1")


_KNOWN: dict[tuple[str, str], Any] = {
    ("_codecs", "encode"): _as_bytes,
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Kind,
}


class _Unpickler(pickle.Unpickler):
    """Knows the names that CIFAR's files have; nothing is looked up in a module."""

    def find_class(self, module: str, name: str) -> Any:
        """Return the stand-in of a known name."""
        known = _KNOWN.get((module, name))
        if known is None:
            raise DataError(f"refused: the pickle names {module}.{name}, which CIFAR's files do not")
        return known

    def persistent_load(self, identifier: Any) -> NoReturn:
        """Refuse what lies elsewhere."""
        raise DataError("refused: the pickle refers to an object outside of the file")
