"""What is in a checkpoint: tensors in safetensors files, which all ranks write, and the rest as JSON. No pickles.

The tensors go through `torch.distributed.checkpoint`: what all ranks hold alike is written once, the writing is shared,
and of a sharded tensor (a DTensor) every rank writes its own part. They are read back whole, on any number of ranks.
"""

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict_loader import load as dcp_load
from torch.distributed.checkpoint.state_dict_saver import save as dcp_save
from torch.distributed.tensor import DTensor

from bigtrain.core.state import State

DESCRIPTION = "checkpoint.json"
_TENSOR = "$tensor"


def split(state: Mapping[str, Any], prefix: str = "") -> tuple[Any, dict[str, Tensor]]:
    """Take the tensors out of a state: return what JSON can hold, with names in their places, and them by name."""
    tensors: dict[str, Tensor] = {}

    def walk(node: Any, name: str) -> Any:
        if isinstance(node, Tensor):
            tensors[name] = node
            return {_TENSOR: name}
        if isinstance(node, Mapping):
            assert all(isinstance(key, str) for key in node), f"{name}: only strings can be keys of a state"
            return {key: walk(value, f"{name}/{key}" if name else key) for key, value in node.items()}
        if isinstance(node, list | tuple):
            return [walk(value, f"{name}/{number}") for number, value in enumerate(node)]
        assert node is None or isinstance(node, bool | int | float | str), f"{name}: a {type(node)} in a state"
        return node

    return walk(state, prefix), tensors


def join(structure: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Put tensors back into their places: the inverse of `split`."""
    if isinstance(structure, dict):
        if structure.keys() == {_TENSOR}:
            return tensors[structure[_TENSOR]]
        return {key: join(value, tensors) for key, value in structure.items()}
    if isinstance(structure, list):
        return [join(value, tensors) for value in structure]
    return structure


class Stage:
    """Copies tensors to buffers in the host's memory, so that training can go on while they are written.

    The buffers are kept: to touch fresh memory takes longer than to copy.
    """

    def __init__(self) -> None:
        self._buffers: dict[str, Tensor] = {}

    @torch.no_grad()
    def copy(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return copies, which the next call overwrites; of a sharded tensor, of this rank's part."""
        buffers = {name: self._buffer(name, _local(tensor)) for name, tensor in tensors.items()}
        for name, buffer in buffers.items():
            buffer.copy_(_local(tensors[name]), non_blocking=True)
        if any(tensor.is_cuda for tensor in tensors.values()):
            torch.cuda.synchronize()
        self._buffers = buffers
        return {name: _like(tensors[name], buffer) for name, buffer in buffers.items()}

    def _buffer(self, name: str, tensor: Tensor) -> Tensor:
        old = self._buffers.get(name)
        if old is not None and (old.shape, old.dtype, old.stride()) == (tensor.shape, tensor.dtype, tensor.stride()):
            return old
        return torch.empty_like(tensor, device="cpu", pin_memory=tensor.is_cuda)


def write_tensors(folder: Path, tensors: Mapping[str, Tensor], group: dist.ProcessGroup) -> None:
    """Write tensors into an empty folder, and flush them to disk. Collective over `group`.

    Raises:
        CheckpointException: a rank could not write; on every rank.
    """
    plain = {name: _like(tensor, _local(tensor).contiguous()) for name, tensor in tensors.items()}
    dcp_save(plain, storage_writer=HuggingFaceStorageWriter(str(folder), save_distributed=True), process_group=group)


def files_of(folder: Path, rank: int | None = None) -> list[Path]:
    """Return the files that are read as tensors in a folder; those that one rank wrote."""
    return sorted(folder.glob("*.safetensors" if rank is None else f"shard-{rank + 1:05}-*.safetensors"))


def load_state(folder: Path) -> State:
    """Read the state in a checkpoint, all of it, whole, in the host's memory."""
    structure = json.loads((folder / DESCRIPTION).read_text())["state"]
    known = HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
    tensors: dict[str, Any] = {
        name: torch.empty(about.size, dtype=about.properties.dtype)  # type: ignore[union-attr]
        for name, about in known.items()
    }
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")  # each rank reads for itself
        dcp_load(tensors, storage_reader=HuggingFaceStorageReader(str(folder)), no_dist=True)
    state: State = join(structure, tensors)
    return state


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor.detach()


def _like(tensor: Tensor, local: Tensor) -> Tensor:
    """Return a rank's part as a tensor that knows the whole's shape and where the part lies in it."""
    if not isinstance(tensor, DTensor):
        return local
    # Not by `DTensor.from_local`, which moves a part that lies on the host back to the mesh's device.
    return DTensor(local, tensor._spec, requires_grad=False)
