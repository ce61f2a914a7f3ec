"""Read parts of the tensors in a checkpoint's files, whatever number of ranks wrote them.

A rank that needs a share of a tensor reads the bytes of this share alone. The files are in the safetensors format: the
length of a JSON header, the header with the place of each tensor, the tensors. They are read with `pread`, and not
mapped into memory, for the reasons in docs/decisions/0010.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bigtrain.checkpoint.pieces import OFFSETS
from bigtrain.core.saved import SavedTensor

Shapes = Mapping[str, tuple[Sequence[int], str]]
"""Shape of each complete tensor, and the name of its type in PyTorch."""

_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}
"""Types of tensors in a state, by their names in the files."""
_LARGEST_HEADER = 100_000_000  # the format's own limit


class Block(NamedTuple):
    """A part of a tensor in a file.

    Attributes:
        path: the file.
        at: position of the first byte in the file.
        offsets: where the part begins in the complete tensor, in each dimension.
        shape: of the part.
        dtype: name of its type in PyTorch.
    """

    path: Path
    at: int
    offsets: tuple[int, ...]
    shape: tuple[int, ...]
    dtype: str


class _Run(NamedTuple):
    """Consecutive elements of a tensor, from `first` to `last - 1`, which begin at byte `at` of a file."""

    first: int
    last: int
    path: Path
    at: int


class Files:
    """The files of a checkpoint, whose headers are read one after the other until what is needed is found.

    Args:
        folder: of the checkpoint.
        names: of its files, in the order in which they are searched.
        shapes: of the tensors that are wanted.

    Attributes:
        folder: of the checkpoint.
    """

    def __init__(self, folder: Path, names: Sequence[str], shapes: Shapes) -> None:
        self.folder, self._shapes = folder, shapes
        self._unread = [folder / name for name in names]
        self._runs: dict[str, list[_Run]] = {}
        self._open: tuple[Path, int] | None = None

    def tensors(self) -> dict[str, SavedTensor]:
        """Return the tensors by their names."""
        return {name: _InFiles(self, name, shape, dtype) for name, (shape, dtype) in self._shapes.items()}

    def read_into(self, memory: memoryview, name: str, start: int, stop: int, width: int) -> None:
        """Read the elements `start` to `stop - 1` of a tensor, of `width` bytes each.

        Raises:
            OSError: they are not all there, or cannot be read.
        """
        for run in self._find(name, start, stop):
            first, last = max(run.first, start), min(run.last, stop)
            target = memory[(first - start) * width : (last - start) * width]
            self._read(target, run.path, run.at + (first - run.first) * width)

    def _find(self, name: str, start: int, stop: int) -> list[_Run]:
        """Return what files contain of some elements."""
        while True:
            runs = [run for run in self._runs.get(name, []) if run.first < stop and start < run.last]
            if sum(min(run.last, stop) - max(run.first, start) for run in runs) >= stop - start:
                return runs
            if not self._unread:
                raise OSError(f"{self.folder}: {name} is incomplete")
            self._learn(self._unread.pop(0))

    def _learn(self, path: Path) -> None:
        """Take note of what a file contains."""
        for name, block in blocks_in(path).items():
            if name in self._shapes:
                shape, dtype = self._shapes[name]
                row = torch.Size(shape[1:]).numel()
                first = block.offsets[0] * row if shape else 0
                if any(block.offsets[1:]) or block.shape[1:] != tuple(shape[1:]) or block.dtype != dtype:
                    raise OSError(f"{path}: {name} does not consist of rows of the complete tensor")
                run = _Run(first, first + torch.Size(block.shape).numel(), path, block.at)
                self._runs.setdefault(name, []).append(run)

    def _read(self, memory: memoryview, path: Path, at: int) -> None:
        if self._open is None or self._open[0] != path:  # reading goes from file to file: one is kept open
            self.close()
            self._open = path, os.open(path, os.O_RDONLY)
        while memory:
            count = os.preadv(self._open[1], [memory], at)
            if not count:
                raise OSError(f"{path}: the file ends too early")
            memory, at = memory[count:], at + count

    def close(self) -> None:
        """Close the file that was read last."""
        if self._open is not None:
            os.close(self._open[1])
            self._open = None

    def __del__(self) -> None:
        self.close()


class _InFiles(SavedTensor):
    """A tensor in files."""

    def __init__(self, files: Files, name: str, shape: Sequence[int], dtype: str) -> None:
        self._files, self._name, self._dtype = files, name, getattr(torch, dtype)
        self.shape, self.name = torch.Size(shape), f"{files.folder}: {name}"

    def read(self, start: int, stop: int) -> Tensor:
        """See SavedTensor."""
        elements = torch.empty(stop - start, dtype=self._dtype, device="cpu")
        if len(elements):
            memory = elements.view(torch.uint8).numpy().data
            self._files.read_into(memory, self._name, start, stop, elements.itemsize)
        return elements


def blocks_in(path: Path) -> dict[str, Block]:
    """Return the parts of tensors that a file contains, by name.

    Raises:
        OSError: it cannot be read, or is not in the safetensors format.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header: dict[str, Any] = json.loads(file.read(min(length, _LARGEST_HEADER)))
        offsets = json.loads(header.pop("__metadata__", {}).get(OFFSETS, "{}"))
        return {name: _block(path, 8 + length, about, offsets.get(name)) for name, about in header.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise OSError(f"{path}: not a safetensors file") from None


def _block(path: Path, data: int, about: Mapping[str, Any], offsets: Mapping[str, Any] | None) -> Block:
    shape, (begin, end) = tuple(map(int, about["shape"])), about["data_offsets"]
    dtype = _DTYPES[about["dtype"]]
    if torch.Size(shape).numel() * getattr(torch, dtype).itemsize != end - begin or begin < 0:
        raise ValueError
    starts = tuple(map(int, offsets["saved_offsets"])) if offsets else (0,) * len(shape)
    if len(starts) != len(shape) or min(starts, default=0) < 0:
        raise ValueError
    return Block(path, data + begin, starts, shape, dtype)
