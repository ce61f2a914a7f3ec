"""What is in a checkpoint: tensors in safetensors files, which all ranks write, and the rest as JSON. No pickles.

What all ranks hold alike is written once, the writing is shared, and of a sharded tensor every rank writes its own
part, see `pieces`. Tensors are read back whole, on any number of ranks.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from bigtrain.checkpoint.pieces import OFFSETS
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


def files_of(folder: Path) -> list[Path]:
    """Return the files that are read as tensors in a folder."""
    return sorted(folder.glob("*.safetensors"))


def shapes_of(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return shape and type of each tensor, of a shard those of the whole, as JSON can hold them."""
    return {name: [list(tensor.shape), str(tensor.dtype).removeprefix("torch.")] for name, tensor in tensors.items()}


def load_state(folder: Path, part: str | None = None) -> State:
    """Read the state in a checkpoint, whole, in the host's memory.

    Args:
        folder: of the checkpoint.
        part: name of the object whose state is wanted; None for those of all.

    Raises:
        OSError: a tensor is not all there.
    """
    about = json.loads((folder / DESCRIPTION).read_text())
    listed = about.get("files", {})
    structure = about["state"] if part is None else about["state"][part]
    files = [
        path
        for path in files_of(folder)
        if part is None or part in listed.get(path.name, {}).get("objects", [part])  # older ones do not tell
    ]
    shapes = about.get("tensors") or _shapes_in(files)
    tensors = {
        name: torch.empty(shape, dtype=getattr(torch, dtype))
        for name, (shape, dtype) in shapes.items()
        if part is None or name == part or name.startswith(f"{part}/")
    }
    missing = {name: tensor.numel() for name, tensor in tensors.items()}
    for path in files:
        with safe_open(path, framework="pt") as file:
            offsets = _offsets_in(file)
            for name in list(file.keys()):
                if name in tensors:
                    block = file.get_tensor(name)
                    starts = offsets.get(name, [0] * block.ndim)
                    place = tuple(slice(at, at + size) for at, size in zip(starts, block.shape, strict=True))
                    tensors[name][place].copy_(block)
                    missing[name] -= block.numel()
    if lost := [name for name, count in missing.items() if count]:
        raise OSError(f"{folder}: {lost[0]} is incomplete")
    state: State = join(structure, tensors)
    return state


def _offsets_in(file: Any) -> dict[str, list[int]]:
    """Return where the pieces in a file begin."""
    offsets = json.loads((file.metadata() or {}).get(OFFSETS, "{}"))
    return {name: entry["saved_offsets"] for name, entry in offsets.items()}


def _shapes_in(files: list[Path]) -> dict[str, Any]:
    """Return shape and type of the tensors in files, as `shapes_of` does."""
    found: dict[str, Any] = {}
    for path in files:
        with safe_open(path, framework="pt") as file:
            offsets = _offsets_in(file)
            for name in list(file.keys()):
                block = file.get_tensor(name)
                ends = list(map(sum, zip(offsets.get(name, [0] * block.ndim), block.shape, strict=True)))
                before, _ = found.get(name, (ends, ""))
                found[name] = [list(map(max, before, ends)), str(block.dtype).removeprefix("torch.")]
    return found
