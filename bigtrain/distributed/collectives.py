"""The few collective operations that bigtrain uses; every rank must call them in the same order."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor

from bigtrain.distributed.traffic import traffic

T = TypeVar("T")


def sum_over_ranks(tensor: Tensor, group: dist.ProcessGroup | None = None) -> Tensor:
    """Add a tensor up over all ranks, in place, by the messages of a group of all of them; return it."""
    with traffic.blocking(tensor.nbytes):
        dist.all_reduce(tensor, op=dist.ReduceOp.SUM, group=group)
    return tensor


def mean_over_ranks(tensor: Tensor, group: dist.ProcessGroup | None = None) -> Tensor:
    """Average a tensor over all ranks, in place, by the messages of a group of all of them; return it."""
    return sum_over_ranks(tensor, group).div_(dist.get_world_size())


def max_over_ranks(values: Mapping[str, float]) -> dict[str, float]:
    """Return each value's largest over all ranks, which must give the same names. Collective."""
    tensor = torch.tensor(list(values.values()), dtype=torch.float64)
    dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
    return dict(zip(values, tensor.tolist(), strict=True))


def any_rank(flag: bool) -> bool:
    """Tell whether `flag` is true on any rank."""
    value = torch.tensor(int(flag), dtype=torch.int32)
    dist.all_reduce(value, op=dist.ReduceOp.MAX)
    return bool(value.item())


class Vote:
    """Tells of some flags whether each was true on any rank, of a moment ago: nobody waits for the answer.

    Each call of `cast` begins an operation and returns the outcome of the one before, which has come meanwhile. Every
    rank must call it as often.

    Args:
        flags: how many.
    """

    def __init__(self, flags: int) -> None:
        self._values = torch.zeros(flags, dtype=torch.int32)
        self._work: Any = None

    def cast(self, *flags: bool) -> list[bool]:
        """Give this rank's flags; return whether any rank's was true in the last call, of each. Collective."""
        outcome = self.settle()
        self._values.copy_(torch.tensor(flags, dtype=torch.int32))
        self._work = dist.all_reduce(self._values, op=dist.ReduceOp.MAX, async_op=True)
        return outcome

    def settle(self) -> list[bool]:
        """Wait for what was begun; return its outcome, False where nothing was. Collective."""
        if self._work is None:
            return [False] * len(self._values)
        self._work.wait()
        self._work = None
        return [bool(value) for value in self._values.tolist()]


def from_rank_zero(value: T) -> T:
    """Return rank 0's `value` on every rank."""
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def on_rank_zero(act: Callable[[], T], group: dist.ProcessGroup | None = None) -> T:
    """Do something on rank 0 and return its result on all ranks. Collective over the group.

    Raises:
        OSError: rank 0 could not; on all ranks.
    """
    box: list[Any] = [None, None]
    if is_rank_zero():
        try:
            box[0] = act()
        except OSError as error:
            box[1] = str(error)
    dist.broadcast_object_list(box, src=0, group=group)
    if box[1] is not None:
        raise OSError(box[1])
    return cast(T, box[0])


def checked_by_rank_zero(check: Callable[[], None], kinds: Sequence[type[Exception]]) -> None:
    """Let rank 0 check something for all ranks: a thousand that do so ask a file system a thousand times as much.

    Args:
        check: raises what is wrong.
        kinds: of errors that every rank raises then, with rank 0's words; the first that fits.

    Raises:
        Exception: the check failed; on all ranks. Collective.
    """
    failed: Exception | None = None
    box: list[Any] = [None]
    if is_rank_zero():
        try:
            check()
        except Exception as error:
            failed = error
            kind = next((number for number, kind in enumerate(kinds) if isinstance(error, kind)), None)
            box[0] = kind, str(error)
    dist.broadcast_object_list(box, src=0)
    if failed is not None:
        raise failed
    if box[0] is not None:
        kind, words = box[0]
        raise RuntimeError(f"rank 0 failed: {words}") if kind is None else kinds[kind](words)


def from_all_ranks(value: T) -> list[T]:
    """Return every rank's `value`, in the ranks' order."""
    boxes: list[T] = [value] * dist.get_world_size()
    dist.all_gather_object(boxes, value)
    return boxes


def to_rank_zero(value: T) -> list[T]:
    """Return every rank's `value`, in the ranks' order, on rank 0; nothing on the others. Collective."""
    boxes: list[T] | None = [value] * dist.get_world_size() if is_rank_zero() else None
    dist.gather_object(value, boxes, dst=0)
    return boxes or []


def first_of_ranks(value: T | None) -> T | None:
    """Return the value of the first rank that has one, on every rank."""
    box: list[T | None] = [None] * dist.get_world_size()
    dist.all_gather_object(box, value)
    return next((one for one in box if one is not None), None)


def is_rank_zero() -> bool:
    """Tell whether this is the rank that speaks and writes."""
    return dist.get_rank() == 0


def barrier() -> None:
    """Wait for all ranks."""
    any_rank(False)


class RunningMeans:
    """Means of named scalars over micro-batches, steps and ranks, since the last reading.

    Values stay on the device until they are read, so that adding one never waits for the device.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    def add(self, values: Mapping[str, Tensor | float]) -> None:
        """Add one observation of each name; all ranks must add the same names between readings."""
        for name, value in values.items():
            number = value.detach().double() if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)
            self._sums[name] = self._sums[name] + number if name in self._sums else number
            self._counts[name] = self._counts.get(name, 0) + 1

    def read(self) -> dict[str, float]:
        """Return the means over all ranks and start afresh. Collective."""
        sums, counts = self._reduce()
        self._sums, self._counts = {}, {}
        return {name: total / counts[name] for name, total in sums.items()}

    def state_dict(self) -> dict[str, dict[str, float]]:
        """Return the sums and counts over all ranks. Collective."""
        sums, counts = self._reduce()
        return {"sums": sums, "counts": counts}

    def load_state_dict(self, state: dict[str, dict[str, float]]) -> None:
        """Go on from `state`: rank 0 takes all of it, the others hold zeros under the same names."""
        mine = 1.0 if is_rank_zero() else 0.0
        self._sums = {name: torch.tensor(mine * v, dtype=torch.float64) for name, v in state["sums"].items()}
        self._counts = {name: int(mine * count) for name, count in state["counts"].items()}

    def _reduce(self) -> tuple[dict[str, float], dict[str, float]]:
        names = sorted(self._sums)
        if not names:
            return {}, {}
        sums = torch.stack([self._sums[name].cpu() for name in names])
        counts = torch.tensor([self._counts[name] for name in names], dtype=torch.float64)
        totals = sum_over_ranks(torch.stack([sums, counts])).tolist()
        return dict(zip(names, totals[0], strict=True)), dict(zip(names, totals[1], strict=True))
