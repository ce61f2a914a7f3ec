"""What each strategy keeps of a player on a rank, and what it sends.

This says again, in formulas, what `bigtrain.strategies` does; `benchmarks/planning.py` compares both on
real ranks, and CI does so for some.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bigtrain.distributed.precision import Precision
from bigtrain.planning.collectives import Kind
from bigtrain.planning.work import Sizes, Work
from bigtrain.strategies.base import StrategySettings
from bigtrain.strategies.ddp import DDPConfig
from bigtrain.strategies.deepspeed import DeepSpeedConfig
from bigtrain.strategies.flat import FlatConfig
from bigtrain.strategies.fsdp import FSDPConfig, in_messages

_FLOAT = 4


@dataclass(frozen=True)
class Parts:
    """Bytes of a rank's memory by what they are for."""

    parameters: float = 0.0
    gradients: float = 0.0
    optimizer: float = 0.0
    average: float = 0.0
    activations: float = 0.0
    buffers: float = 0.0

    def __add__(self, other: "Parts") -> "Parts":
        return Parts(*(mine + theirs for mine, theirs in zip(self.values(), other.values(), strict=True)))

    def values(self) -> tuple[float, ...]:
        """Return the parts in order."""
        return (self.parameters, self.gradients, self.optimizer, self.average, self.activations, self.buffers)

    @property
    def total(self) -> float:
        """All of them."""
        return sum(self.values())


@dataclass(frozen=True)
class Message:
    """A collective operation.

    Attributes:
        what: its purpose.
        kind: of the operation.
        size: bytes of the whole tensor, as `bigtrain.distributed.traffic` counts them.
        ranks: how many take part; 0 for all.
        stride: from one of them to the next.
        after: number of the player's parameters, in order of arrival, whose gradients it waits for while the backward
            goes on; None where the training waits for the message.
        counted: whether the run's own `comm/…` metrics count it.
    """

    what: str
    kind: Kind
    size: int
    ranks: int = 0
    stride: int = 1
    after: int | None = None
    counted: bool = True


class Single:
    """One rank: all of everything, gradients from the backward to the step; base of the others.

    Args:
        sizes: the player's.
        ranks: all of them.
        precision: of the run.
        accumulation: micro-batches a step.
    """

    every_time = False
    """Whether gradients are sent after each micro-batch, not after the last alone."""

    def __init__(self, sizes: Sizes, ranks: int, precision: Precision, accumulation: int) -> None:
        self.sizes, self.ranks, self.precision, self.accumulation = sizes, ranks, precision, accumulation
        self.moved = sizes.bytes_of(sizes.trainable)
        self.moments = 2 * self.moved + _FLOAT * len(sizes.trainable)
        self.halved = self.moved // 2 if precision == "pure_bf16" else 0

    def kept(self) -> Parts:
        """Return what stays from phase to phase."""
        return Parts(parameters=self.sizes.weights + self.sizes.buffers + self.halved, optimizer=self.moments)

    def in_phase(self, work: Work) -> list[Parts]:
        """Return the fullest moments of the player's own phase, without what is kept."""
        if self.accumulation > 1 or self.halved:
            return [Parts(gradients=self.moved, activations=work.activations)]
        gradients = min(float(self.moved), work.with_gradients)
        return [Parts(gradients=gradients, activations=work.with_gradients - gradients)]

    def at_step(self) -> Parts:
        """Return what the optimizer's step needs besides what is kept."""
        return Parts(gradients=self.moved)

    def at_average(self) -> Parts:
        """Return what handing whole weights to the average needs besides."""
        return Parts()

    def of_weights(self, *, second_order: bool) -> list[Message]:
        """Return the messages by which the player gets its own weights for a phase.

        Args:
            second_order: whether the phase differentiates a gradient.
        """
        return []

    def of_gradients(self, arrivals: Sequence[str]) -> list[Message]:
        """Return the messages of gradients, of the last micro-batch or of each (`every_time`).

        Args:
            arrivals: names of the parameters in the order in which their gradients are done.
        """
        return []

    def of_step(self) -> list[Message]:
        """Return the messages of the optimizer's step."""
        return []

    def whole(self, what: str) -> list[Message]:
        """Return the messages by which others get all of the player's weights."""
        return []


class Flat(Single):
    """All of everything; one message after the backward."""

    def at_step(self) -> Parts:
        """See Single: gradients, and a row of them."""
        return Parts(gradients=self.moved, buffers=self.moved)

    def of_gradients(self, arrivals: Sequence[str]) -> list[Message]:
        """See Single."""
        return [Message(f"gradients of {self.sizes.name}", "all_reduce", self.moved)]


class DDP(Single):
    """All of everything; gradients live in buckets, which are sent as they fill."""

    def __init__(self, sizes: Sizes, ranks: int, precision: Precision, accumulation: int, bucket_mb: float) -> None:
        super().__init__(sizes, ranks, precision, accumulation)
        self.capacity = int(bucket_mb * 2**20)

    def kept(self) -> Parts:
        """See Single."""
        bucket = self.moved - self.halved
        return super().kept() + Parts(gradients=bucket)

    def in_phase(self, work: Work) -> list[Parts]:
        """See Single; gradients of all micro-batches but the last are not in the buckets yet."""
        beside = self.moved if self.accumulation > 1 or self.halved else 0
        return [Parts(gradients=beside, activations=work.activations)]

    def at_step(self) -> Parts:
        """See Single."""
        return Parts(gradients=self.moved) if self.halved else Parts()

    def of_gradients(self, arrivals: Sequence[str]) -> list[Message]:
        """See Single; buckets from the last weight to the first, each sent when it and those before are full."""
        what = f"gradients of {self.sizes.name}"
        if self.halved and self.accumulation > 1:
            return [Message(what, "all_reduce", self.moved)]
        width = _FLOAT // 2 if self.halved else _FLOAT
        arrival = {name: done for done, name in enumerate(arrivals, 1)}
        order = [name for name in reversed(self.sizes.parameters) if name in arrival]
        messages, size, filled, done = [], 0, 0, 0
        for name in order:
            size += math.prod(self.sizes.parameters[name])
            filled += width * math.prod(self.sizes.parameters[name])
            done = max(done, arrival[name])
            if filled >= self.capacity or name == order[-1]:
                messages.append(Message(what, "all_reduce", _FLOAT * size, after=done))
                size = filled = 0
        return messages


class FSDP(Single):
    """A share of everything, and a frozen whole copy for the rivals; whole weights in the player's own phase.

    Args:
        sizes: the player's.
        ranks: all of them.
        precision: of the run.
        accumulation: micro-batches a step.
        shard_ranks: ranks that share out.
    """

    def __init__(self, sizes: Sizes, ranks: int, precision: Precision, accumulation: int, shard_ranks: int) -> None:
        super().__init__(sizes, ranks, precision, accumulation)
        self.shard_ranks, self.halved = shard_ranks, 0
        self.width = 2 if precision == "pure_bf16" else _FLOAT
        self.padded = [sum(self._padded(name) for name in part) for part in sizes.parts]
        self.scalars = [name for name, shape in sizes.parameters.items() if not shape]
        self.row = sum(self.padded)

    def _padded(self, name: str) -> int:
        """Return the elements of a parameter whose rows divide over the ranks."""
        rows, *rest = self.sizes.parameters[name]
        return -(-rows // self.shard_ranks) * self.shard_ranks * math.prod(rest)

    def kept(self) -> Parts:
        """See Single."""
        share = _FLOAT * (self.row // self.shard_ranks + len(self.scalars))
        moments = 2 * share + _FLOAT * len(self.sizes.trainable)
        copy = self.sizes.weights
        return Parts(parameters=share + self.sizes.buffers, optimizer=moments, buffers=copy)

    def in_phase(self, work: Work) -> list[Parts]:
        """See Single: whole weights, whole gradients until they are scattered, and shares of these."""
        whole = self.width * self.row
        gradients = whole if self.accumulation > 1 else self.width * max(self.padded, default=0)
        share = _FLOAT * self.row // self.shard_ranks
        buffers = whole + _FLOAT * max(self.padded, default=0)
        return [Parts(gradients=gradients + share, activations=work.activations, buffers=buffers)]

    def at_step(self) -> Parts:
        """See Single."""
        return Parts(gradients=_FLOAT * self.row // self.shard_ranks)

    def at_average(self) -> Parts:
        """See Single: whole weights, and the last message with everyone's shares and with one's own."""
        together = max((message.size for message in self.whole("")), default=0)
        return Parts(buffers=self.sizes.weights + together * (1 + 1 / self.shard_ranks))

    def of_weights(self, *, second_order: bool) -> list[Message]:
        """See Single.

        Where a gradient is taken inside of the forward, FSDP2 gives back what lies outside of the stages after it and
        gathers it again, and everything for the next micro-batch.
        """
        sizes = [*self.padded, *self.padded[-1:]] * self.accumulation if second_order else self.padded
        what = f"weights of {self.sizes.name}"
        return [Message(what, "all_gather", self.width * size, self.shard_ranks) for size in sizes if size]

    def of_gradients(self, arrivals: Sequence[str]) -> list[Message]:
        """See Single."""
        what = f"gradients of {self.sizes.name}"
        arrived = {name: number for number, name in enumerate(arrivals, 1)}
        messages = []
        for part, size in ((part, size) for part, size in zip(self.sizes.parts, self.padded, strict=True) if size):
            after = max((arrived.get(name, 0) for name in part), default=0)
            messages.append(Message(what, "reduce_scatter", _FLOAT * size, self.shard_ranks, after=after))
            if self.shard_ranks < self.ranks:
                share = _FLOAT * size // self.shard_ranks
                groups = self.ranks // self.shard_ranks
                messages.append(Message(what, "all_reduce", share, groups, self.shard_ranks, after, counted=False))
        return sorted(messages, key=lambda message: message.after or 0)

    def of_step(self) -> list[Message]:
        """See Single."""
        name, size = self.sizes.name, _FLOAT * len(self.scalars)
        scalars = [Message(f"gradients of {name}", "all_reduce", size)] if self.scalars else []
        return [*scalars, Message(f"norm of {name}", "all_reduce", _FLOAT)]

    def whole(self, what: str) -> list[Message]:
        """See Single."""
        sharded = [(name, self._padded(name)) for name, shape in self.sizes.parameters.items() if shape]
        sizes = [_FLOAT * sum(count for _, count in together) for together in in_messages(sharded)]
        return [Message(what, "all_gather", size, self.shard_ranks) for size in sizes]


def sharing(settings: StrategySettings, sizes: Sizes, ranks: int, precision: Precision, accumulation: int) -> Single:
    """Return what a strategy does with a player."""
    common = (sizes, ranks, precision, accumulation)
    match settings:
        case DDPConfig():
            return DDP(*common, settings.bucket_mb)
        case FlatConfig():
            return Flat(*common)
        case FSDPConfig():
            return FSDP(*common, settings.shard_ranks or ranks)
        case DeepSpeedConfig():
            from bigtrain.planning.zero import ZeRO

            return ZeRO(*common, settings)
        case _:
            return Single(*common)
