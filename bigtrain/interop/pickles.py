"""Reading pickled networks without running anything that they carry.

A pickle is a program: it may name any function of any module and call it. The published StyleGAN networks are pickles,
and carry their own Python source besides. This reader knows a short table of names, and for each of them has an inert
stand-in of its own: no name is ever looked up in a module, no source is run, and every other name is refused.
"""

import io
import math
import mmap
import pickle
import pickletools
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, NoReturn, cast

import numpy as np
import torch
from torch import Tensor

from bigtrain.interop.errors import InteropError
from data_pipelines.errors import first_line

_SPARE, _COPIES = 2**24, 8
"""Bytes that a pickle's calls may return, beside so many times the size of the file."""


@dataclass(frozen=True)
class PickledObject:
    """What was an object of a class that is not ours: its attributes, and nothing that could act.

    Attributes:
        class_name: as the pickle calls it.
        state: its attributes.
    """

    class_name: str
    state: dict[str, Any]


@dataclass(frozen=True)
class PickledTensor:
    """A tensor, out of the pickle's reach.

    Attributes:
        value: on the CPU.
    """

    value: Tensor

    def __setstate__(self, state: object) -> NoReturn:
        """Refuse to be changed."""
        raise InteropError("refused: it changes a tensor")


class PickledDict(dict[Any, Any]):
    """What was a dictionary of any class."""

    def __setstate__(self, state: dict[Any, Any]) -> None:
        """Take attributes for items, as the published `EasyDict` does."""
        self.update(state)


def read_pickle(file: Path) -> Any:
    """Read a pickle of tensors, numbers, strings, containers and networks.

    Returns:
        The content; networks as PickledObject.

    Raises:
        InteropError: it is damaged, or asks for anything that is not in the table.
    """
    try:
        with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            _check_sizes(content)
            content.seek(0)
            return _Reader(content, _SPARE + _COPIES * len(content)).load()
    except InteropError as error:
        raise InteropError(f"{file}: {error}") from None
    except OSError as error:
        raise InteropError(f"{file}: cannot be read: {error.strerror}") from None
    except Exception as error:  # a pickle's program may fail in as many ways as there are
        reason = first_line(error)
        raise InteropError(f"{file}: not a pickle of networks ({reason})") from None


def _check_sizes(content: mmap.mmap) -> None:
    """Refuse a pickle whose numbers ask for more memory than there can be things to keep in it.

    The unpickler takes memory for all places of its memo up to the one that is named: nine bytes can ask for gigabytes.
    """
    for count, (operation, argument, _) in enumerate(pickletools.genops(cast("IO[bytes]", content))):
        if operation.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(argument or 0) > count:
            raise InteropError(f"refused: place {argument} of its memo, after {count} operations")


class _Reader(pickle.Unpickler):
    """Builds what a pickle describes of the stand-ins.

    Args:
        stream: the pickle.
        budget: bytes that its calls may return, all together: each of them is a few bytes of the pickle, and may copy
            whatever was built before.
    """

    def __init__(self, stream: mmap.mmap, budget: int) -> None:
        super().__init__(stream)
        self._budget = budget

    def find_class(self, module: str, name: str) -> Any:
        stand_in = _STAND_INS.get((module, name))
        if stand_in is None:
            raise InteropError(f"refused: it asks for {module}.{name}, which is not data{_way_on(module)}")
        return _Function(partial(self._call, stand_in)) if isinstance(stand_in, _Function) else stand_in

    def _call(self, function: "_Function", *arguments: Any) -> Any:
        result = function(*arguments)
        self._budget -= _size_of(result)
        if self._budget < 0:
            raise InteropError("refused: its calls return many times the size of the file")
        return result


def _size_of(result: Any) -> int:
    """Return about how many bytes something takes that a call has returned."""
    if isinstance(result, PickledTensor):
        return result.value.nbytes
    if isinstance(result, set | tuple):
        return 64 * len(result)
    return len(result) if isinstance(result, bytes) else 64


class _Function:
    """A callable that a pickle can call, but not change."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __setstate__(self, state: object) -> NoReturn:
        raise InteropError("refused: it changes a function")


class _Plain:
    """An object of one of PyTorch's containers."""

    def __init__(self) -> None:
        self.state: dict[str, Any] = {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.state = dict(state)


class _Dtype:
    """A numpy dtype of numbers."""

    def __init__(self, code: str) -> None:
        if not re.fullmatch(r"[biufc]\d+", code):
            raise InteropError(f"refused: an array of dtype {code!r}")
        self.order, self.code = "=", code

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] not in ("<", ">", "|", "="):
            raise InteropError(f"refused: an array of byte order {state[1]!r}")
        self.order = state[1]

    def read(self, raw: bytes) -> np.ndarray[Any, Any]:
        return np.frombuffer(raw, self.order + self.code)


class _Array:
    """A numpy array, empty until its content follows."""

    def __init__(self) -> None:
        self.content = np.empty(0)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, column_major, raw = state
        self.content = dtype.read(raw).reshape(shape, order="F" if column_major else "C")


def _network(description: dict[str, Any]) -> PickledObject:
    if description.get("type") != "class" or not isinstance(description.get("state"), dict):
        raise InteropError("a persistent object that is not described as {type: class, class_name, state}")
    return PickledObject(str(description["class_name"]), description["state"])


def _storage(archive: bytes) -> PickledTensor:
    """Read a storage, which travels as an archive inside of the pickle; PyTorch's own restricted reader opens it."""
    try:
        storage = torch.load(io.BytesIO(archive), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL (\S+)", str(error))
        what = f"it asks for {named[1]}, which is not data" if named else "a tensor that is not data"
        raise InteropError(f"refused: {what}") from None
    if not isinstance(storage, torch.storage.TypedStorage):
        raise InteropError("refused: a tensor whose content is not a storage")
    content = storage._untyped_storage  # its public name warns that typed storages will go
    return PickledTensor(torch.empty(0, dtype=storage.dtype).set_(content))


def _tensor(
    storage: PickledTensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *rest: Any
) -> PickledTensor:
    there = storage.value.numel()
    if math.prod(size) > there:
        raise InteropError(f"refused: a tensor of {math.prod(size)} numbers, of which {there} are there")
    return PickledTensor(storage.value.as_strided(size, stride, offset).contiguous())


def _parameter(data: PickledTensor, *rest: Any) -> PickledTensor:
    return data


def _array(cls: object, shape: object, code: object) -> _Array:
    return _Array()


def _scalar(dtype: _Dtype, raw: bytes) -> float | int | complex:
    number: float | int | complex = dtype.read(raw)[0].item()
    return number


def _bytes(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise InteropError(f"refused: bytes in {encoding!r}")
    return text.encode("latin1")


def _way_on(module: str) -> str:
    """Return what a user can do with a pickle that asks for a module; empty for nothing."""
    return next((f"; {advice}" for known, advice in _OF_OTHERS.items() if f".{module}.".startswith(f".{known}.")), "")


_OF_OTHERS = {
    "dnnlib.tflib": "it is a pickle of TensorFlow: convert it with legacy.py of stylegan2-ada-pytorch or stylegan3 "
    "(--source=FILE.pkl --dest=NEW.pkl) and import NEW.pkl",
    "pg_modules": "it is of StyleGAN-XL or Projected GAN, whose networks are not among those that are imported",
    "timm": "it is of StyleGAN-XL or Projected GAN, whose networks are not among those that are imported",
}
"""Modules of other programs' pickles, and what to do with these."""

_STAND_INS: dict[tuple[str, str], Any] = {
    ("torch_utils.persistence", "_reconstruct_persistent_obj"): _Function(_network),
    ("dnnlib.util", "EasyDict"): PickledDict,
    ("collections", "OrderedDict"): PickledDict,
    ("builtins", "set"): _Function(set),
    ("__builtin__", "set"): _Function(set),
    ("_codecs", "encode"): _Function(_bytes),  # how pickles of protocol 2 write bytes
    ("torch._utils", "_rebuild_tensor_v2"): _Function(_tensor),
    ("torch._utils", "_rebuild_parameter"): _Function(_parameter),
    ("torch.storage", "_load_from_bytes"): _Function(_storage),
    ("torch", "Size"): _Function(tuple),
    ("numpy", "dtype"): _Function(lambda code, *rest: _Dtype(code)),
    ("numpy", "ndarray"): _Function(_array),
    **{
        (f"numpy.{core}.multiarray", name): _Function(function)
        for core in ("core", "_core")
        for name, function in (("_reconstruct", _array), ("scalar", _scalar))
    },
    **{("torch.nn.modules.container", name): _Plain for name in ("ModuleList", "Sequential", "ModuleDict")},
}
"""All names that a pickle may use."""
