"""What is in a checkpoint: tensors in safetensors files, which all ranks write, and the rest as JSON. No pickles.

What all ranks hold alike is written once, the writing is shared, and of a sharded tensor every rank writes its own
part, see `pieces`. Any number of ranks can read it, each the parts that it needs, see `reading`.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from bigtrain.checkpoint.reading import Files, Shapes, blocks_in
from bigtrain.core.saved import in_memory
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


def join(structure: Any, tensors: Mapping[str, Any]) -> Any:
    """Put tensors, or what stands for them, back into their places: the inverse of `split`."""
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


def open_state(folder: Path, part: str | None = None, *, rank: int = 0, world_size: int = 1) -> State:
    """Return the state in a checkpoint with a `SavedTensor` in the place of each tensor: none of them is read yet.

    Args:
        folder: of the checkpoint.
        part: name of the object whose state is wanted; None for those of all.
        rank: of this process: where as many ranks wrote the checkpoint, its own file is searched first.
        world_size: number of ranks that read.
    """
    about = json.loads((folder / DESCRIPTION).read_text())
    listed = about.get("files", {})
    structure = about["state"] if part is None else about["state"][part]
    files = [
        path
        for path in files_of(folder)
        if part is None or part in listed.get(path.name, {}).get("objects", [part])  # older ones do not tell
    ]
    shapes: Shapes = {
        name: about
        for name, about in (about.get("tensors") or _shapes_in(files)).items()
        if part is None or name == part or name.startswith(f"{part}/")
    }
    own = len(files) * rank // world_size
    # Single numbers are in the first file, see `pieces`; of the other ranks' files, neighbours are the likeliest.
    order = sorted(range(len(files)), key=lambda number: (number != own, number != 0, abs(number - own)))
    state: State = join(structure, Files(folder, [files[number].name for number in order], shapes).tensors())
    return state


def load_state(folder: Path, part: str | None = None) -> State:
    """Read the state in a checkpoint, whole, in the host's memory.

    Args:
        folder: of the checkpoint.
        part: name of the object whose state is wanted; None for those of all.

    Raises:
        OSError: a tensor is not all there.
    """
    state: State = in_memory(open_state(folder, part))
    return state


def _shapes_in(files: list[Path]) -> Shapes:
    """Return shape and type of the tensors in files, as `shapes_of` does."""
    found: dict[str, tuple[list[int], str]] = {}
    for path in files:
        for name, block in blocks_in(path).items():
            ends = [at + size for at, size in zip(block.offsets, block.shape, strict=True)]
            before, _ = found.get(name, (ends, ""))
            found[name] = [max(pair) for pair in zip(ends, before, strict=True)], block.dtype
    return found
