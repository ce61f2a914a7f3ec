"""Which rank writes what of a checkpoint: told by names and sizes alone, so that no rank needs to hear of another's.

What all ranks hold alike is laid out on one line of bytes, by name, and cut into as many equal parts as there are
ranks; each rank stages and writes the rows of tensors that begin in its part. Single numbers come first, so that who
needs all of them, such as counters of steps, finds them in one file. Of a sharded tensor (a DTensor) each rank writes
its own part; of replicas, one does. The files are those of `torch.distributed.checkpoint`: safetensors
whose metadata say where in the whole tensor each piece lies.
"""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor
from torch.distributed.tensor import DTensor, Replicate
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

OFFSETS = "DCP_SHARDING_INFO"
"""Key of the files' metadata: JSON, `{name: {"saved_offsets": [...]}}`."""


class Piece(NamedTuple):
    """A block of a tensor.

    Attributes:
        tensor: its content.
        offsets: where it begins in the whole tensor, in each dimension.
    """

    tensor: Tensor
    offsets: tuple[int, ...]


def own_pieces(tensors: Mapping[str, Tensor], rank: int, world_size: int) -> dict[str, Piece]:
    """Return what a rank writes of tensors that all ranks hold, whole or in shards; views of them.

    Args:
        tensors: by name.
        rank: of this process.
        world_size: number of ranks.
    """
    whole = {name: tensor.detach() for name, tensor in tensors.items() if not isinstance(tensor, DTensor)}
    pieces = dict(_rows(whole, rank, world_size))
    for number, name in enumerate(sorted(tensors.keys() - whole.keys())):
        tensor = tensors[name]
        assert isinstance(tensor, DTensor)
        local = tensor.to_local().detach()
        if local.numel() and _is_mine(tensor, number):
            _, offsets = compute_local_shape_and_global_offset(tensor.shape, tensor.device_mesh, tensor.placements)
            pieces[name] = Piece(local, tuple(offsets))
    return pieces


def _rows(tensors: Mapping[str, Tensor], rank: int, world_size: int) -> Iterator[tuple[str, Piece]]:
    """Iterate over the rows of whole tensors that begin in a rank's part of all bytes."""
    total = sum(tensor.nbytes for tensor in tensors.values())
    first, last = total * rank // world_size, total * (rank + 1) // world_size
    start = 0
    for name in sorted(tensors, key=lambda name: (tensors[name].ndim > 0, name)):
        tensor = tensors[name]
        if not tensor.numel():
            if rank == 0:
                yield name, Piece(tensor, (0,) * tensor.ndim)
            continue
        rows = tensor.shape[0] if tensor.ndim else 1
        size = tensor.nbytes // rows
        low, high = (min(max(-(-(edge - start) // size), 0), rows) for edge in (first, last))
        if low < high and tensor.ndim:
            yield name, Piece(tensor[low:high], (low, *(0,) * (tensor.ndim - 1)))
        elif low < high:
            yield name, Piece(tensor, ())
        start += tensor.nbytes


def _is_mine(tensor: DTensor, number: int) -> bool:
    """Tell whether this rank writes its shard of a tensor, the `number`-th, of which other ranks may have replicas."""
    place = tensor.device_mesh.get_coordinate()
    assert place is not None  # every rank is in it
    replicas = [dim for dim, placement in enumerate(tensor.placements) if isinstance(placement, Replicate)]
    return all(place[dim] == number % tensor.device_mesh.size(dim) for dim in replicas)


class Stage:
    """Copies pieces to buffers in the host's memory, so that training can go on while they are written.

    The buffers are kept: to touch fresh memory takes longer than to copy.
    """

    def __init__(self) -> None:
        self._buffers: dict[str, Tensor] = {}

    @torch.no_grad()
    def copy(self, pieces: Mapping[str, Piece]) -> dict[str, Piece]:
        """Return copies, which the next call overwrites."""
        buffers = {name: self._buffer(name, piece.tensor) for name, piece in pieces.items()}
        for name, buffer in buffers.items():
            buffer.copy_(pieces[name].tensor, non_blocking=True)
        if any(piece.tensor.is_cuda for piece in pieces.values()):
            torch.cuda.synchronize()
        self._buffers = buffers
        return {name: Piece(buffer, pieces[name].offsets) for name, buffer in buffers.items()}

    def _buffer(self, name: str, tensor: Tensor) -> Tensor:
        old = self._buffers.get(name)
        if old is not None and (old.shape, old.dtype) == (tensor.shape, tensor.dtype):
            return old
        return torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu", pin_memory=tensor.is_cuda)


def write_pieces(folder: Path, pieces: Mapping[str, Piece], rank: int) -> list[Path]:
    """Write a rank's pieces into a folder, and flush them to disk; return its files.

    Raises:
        OSError: they cannot be written.
    """
    if not pieces:
        return []
    path = folder / f"shard-{rank + 1:05}-model-00001-of-00001.safetensors"
    offsets = {name: {"saved_offsets": list(piece.offsets)} for name, piece in pieces.items()}
    try:
        save_file({name: piece.tensor for name, piece in pieces.items()}, path, metadata={OFFSETS: json.dumps(offsets)})
        with path.open("rb") as file:
            os.fsync(file.fileno())
    except SafetensorError as error:
        raise OSError(str(error)) from None
    return [path]


def objects_in(pieces: Mapping[str, Piece]) -> list[str]:
    """Return the names of the objects that pieces belong to."""
    return sorted({name.partition("/")[0] for name in pieces})
