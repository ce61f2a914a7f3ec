"""What a strategy keeps of a player on a rank, and what it sends.

This says again, in formulas, what `bigtrain.strategies` does; `benchmarks/planning.py` compares both on
real ranks, and CI does so for some.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from bigtrain.distributed.precision import Precision
from bigtrain.engine.optimizers import OptimizerConfig
from bigtrain.strategies.plans.work import Sizes, Work

Kind = Literal["all_reduce", "all_gather", "reduce_scatter", "broadcast"]
"""A collective operation."""

FLOAT = 4
"""Bytes of a float32."""


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


class StrategyPlan:
    """A strategy that keeps all of everything, gradients from the backward to the step; base of the others.

    Args:
        sizes: the player's.
        optimizer: the player's.
        ranks: all of them.
        precision: of the run.
        accumulation: micro-batches a step.
    """

    every_time = False
    """Whether gradients are sent after each micro-batch, not after the last alone."""

    def __init__(
        self, sizes: Sizes, optimizer: OptimizerConfig, ranks: int, precision: Precision, accumulation: int
    ) -> None:
        self.sizes, self.optimizer, self.ranks = sizes, optimizer, ranks
        self.precision, self.accumulation = precision, accumulation
        self.moved = sizes.bytes_of(sizes.trainable)
        self.moments = self.moments_of(self.moved, len(sizes.trainable))
        self.halved = self.moved // 2 if precision == "pure_bf16" else 0

    def kept(self) -> Parts:
        """Return what stays from phase to phase."""
        return Parts(parameters=self.sizes.weights + self.sizes.buffers + self.halved, optimizer=self.moments)

    def moments_of(self, weights: float, counters: int) -> float:
        """Return the bytes that the optimizer keeps for float32 weights of so many bytes.

        Args:
            weights: bytes of the weights that it moves on this rank.
            counters: how many counters of steps it has there, if it counts them.
        """
        return len(self.optimizer.moments) * weights + (FLOAT * counters if self.optimizer.counts_steps else 0)

    def updated(self) -> float:
        """Return the bytes that the optimizer reads and writes in a step: weights, their gradients and moments."""
        moments = len(self.optimizer.moments)
        return (3 + 2 * moments) * self.kept().optimizer / moments

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
