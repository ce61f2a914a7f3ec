"""Memory of a rank: parameters, gradients, optimizer state, activations and the peak."""

import contextlib
import resource
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from rich.table import Column, Table
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode

MIB = 2**20
_WITH_STORAGE = frozenset({Tensor, torch.nn.Parameter, FakeTensor})


@dataclass(frozen=True)
class MemoryUse:
    """What one player keeps on this rank, in bytes.

    Attributes:
        parameters: weights and buffers, with the float32 copies of reduced ones.
        gradients: as they are at the end of a backward.
        optimizer: Adam's moments, once it has stepped.
    """

    parameters: int
    gradients: int
    optimizer: int


def local_bytes(tensors: Iterable[Tensor]) -> int:
    """Add up what this rank holds of some tensors, shares of sharded ones."""
    return sum((tensor.to_local() if isinstance(tensor, DTensor) else tensor).nbytes for tensor in tensors)


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows the storages that are made inside of it, on any device.

    Attributes:
        now: bytes of those that are still alive.
        peak: the most there were at a time.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._seen: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call the operator, and note the storages that it made; those of a sharded tensor come by themselves."""
        if any(issubclass(kind, DTensor) for kind in types):
            return NotImplemented
        result = func(*args, **(kwargs or {}))
        given = tensors_in((args, tuple(kwargs.values())) if kwargs else args)
        known = {id(leaf.untyped_storage()) for leaf in given if _has_storage(leaf)}
        for leaf in tensors_in((result,)):
            if _has_storage(leaf):
                storage = leaf.untyped_storage()
                if id(storage) not in known and storage not in self._seen:
                    self._follow(storage)
        return result

    def _follow(self, storage: torch.UntypedStorage) -> None:
        size = storage.nbytes()
        self._seen.add(storage)
        weakref.finalize(storage, self._gone, size)
        self.now += size
        self.peak = max(self.peak, self.now)

    def _gone(self, size: int) -> None:
        self.now -= size


def tensors_in(values: Iterable[Any]) -> list[Tensor]:
    """Return the tensors in an operator's arguments or results, also those in lists; faster than PyTorch's pytree."""
    found: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, list | tuple):
            found += tensors_in(value)
    return found


def _has_storage(tensor: Tensor) -> bool:
    return type(tensor) in _WITH_STORAGE and tensor.device.type != "meta"


@contextlib.contextmanager
def measured_peak(device: torch.device) -> Iterator[Callable[[], int]]:
    """Measure what is done inside: the most bytes that it held at a time, besides what was there before."""
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        yield lambda: torch.cuda.max_memory_allocated(device) - before
    else:
        with LiveBytes() as live:
            yield lambda: live.peak


def highest_ever(device: torch.device) -> int:
    """Return the most bytes that this process has held: of the device, or on a CPU of the whole process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def memory_metrics(
    memory_use: Mapping[str, MemoryUse], activations: Mapping[str, int], device: torch.device
) -> dict[str, float]:
    """Return what to log: MiB of the rank that has most. Collective.

    Args:
        memory_use: what this rank keeps of each player.
        activations: bytes that each phase needs besides; empty on ranks that do not know.
        device: where this rank computes.
    """
    parts = {
        "parameters": sum(one.parameters for one in memory_use.values()),
        "gradients": sum(one.gradients for one in memory_use.values()),
        "optimizer": sum(one.optimizer for one in memory_use.values()),
        "activations": max(activations.values(), default=0),
        "peak": highest_ever(device),
    }
    highest = torch.tensor(list(parts.values()), dtype=torch.float64, device=device)
    dist.all_reduce(highest, op=dist.ReduceOp.MAX)
    return {f"memory/{name}_mib": size / MIB for name, size in zip(parts, highest.tolist(), strict=True)}


def memory_table(memory_use: Mapping[str, MemoryUse], activations: Mapping[str, int]) -> Table:
    """Show what each player keeps on this rank, and what each phase needs besides."""
    columns = (Column(name, justify="right") for name in ("parameters", "gradients", "optimizer", "activations"))
    table = Table("MiB on rank 0", *columns, box=None)
    for name, one in memory_use.items():
        table.add_row(name, *(f"{size / MIB:.1f}" for size in (one.parameters, one.gradients, one.optimizer)), "")
    for phase, size in activations.items():
        table.add_row(phase, "", "", "", f"{size / MIB:.1f}")
    return table
