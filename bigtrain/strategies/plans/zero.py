"""What DeepSpeed's ZeRO keeps and sends."""

import math
from collections.abc import Iterable, Sequence

from bigtrain.distributed.precision import Precision
from bigtrain.engine.optimizers import OptimizerConfig
from bigtrain.strategies.plans.base import FLOAT, Message, Parts, StrategyPlan
from bigtrain.strategies.plans.work import Sizes, Work

_ALIGNMENT = 2
"""Stages 1 and 2 fill a player's row of weights up to a multiple of this times the number of ranks."""


class ZeROPlan(StrategyPlan):
    """Shares of moments, of gradients from stage 2 on, of weights at stage 3.

    Args:
        sizes: the player's.
        optimizer: the player's.
        ranks: all of them.
        precision: of the run.
        accumulation: micro-batches a step.
        stage: of ZeRO.
        offloaded: whether the moments live in the memory of the host.
        bucket_mb: size of a message in MiB.
    """

    def __init__(
        self,
        sizes: Sizes,
        optimizer: OptimizerConfig,
        ranks: int,
        precision: Precision,
        accumulation: int,
        *,
        stage: int,
        offloaded: bool,
        bucket_mb: float,
    ) -> None:
        super().__init__(sizes, optimizer, ranks, precision, accumulation)
        self.stage, self.offloaded = stage, offloaded
        self.capacity = int(bucket_mb * 2**20 / FLOAT)
        multiple = _ALIGNMENT * ranks
        self.row = FLOAT * -(-self.moved // FLOAT // multiple) * multiple
        self.whole_row = sum(FLOAT * self._padded(name) for name in sizes.trainable)

    def kept(self) -> Parts:
        """See StrategyPlan: the row of weights, and this rank's float32 share of it beside its moments."""
        sizes = self.sizes
        if self.stage == 0:
            return Parts(parameters=sizes.weights + sizes.buffers, optimizer=self.moments)
        share = (self.whole_row if self.stage == 3 else self.row) / self.ranks
        moments = 0.0 if self.offloaded else self.moments_of(share, 1)
        master = 0.0 if self.offloaded else share
        frozen = sizes.weights - self.moved
        if self.stage == 3:
            buffers = sizes.weights + FLOAT * self.capacity  # the rivals' copy, a bucket
            return Parts(parameters=share + master + frozen + sizes.buffers, optimizer=moments, buffers=buffers)
        return Parts(parameters=self.row + master + frozen + sizes.buffers, optimizer=moments)

    def in_phase(self, work: Work) -> list[Parts]:
        """See StrategyPlan.

        A row for gradients comes with the first of them; two at stage 2, where one is sent meanwhile.
        """
        if self.stage == 0:
            return super().in_phase(work)
        bucket, several = FLOAT * self.capacity, self.accumulation > 1
        if self.stage == 1:
            late = Parts(buffers=bucket, activations=work.late)
            whole = Parts(gradients=self.moved, buffers=bucket, activations=work.activations)
            return [whole] if several else [Parts(activations=work.activations), late]
        share = self.moved / self.ranks if several or self.stage == 3 else 0.0
        buffers = self.whole_row if self.stage == 3 else 2 * bucket
        early = Parts(gradients=share, activations=work.activations)
        activations = work.activations if self.stage == 3 else work.late
        return [early, Parts(gradients=share, buffers=buffers, activations=activations)]

    def at_step(self) -> Parts:
        """See StrategyPlan."""
        if self.stage == 0:
            return Parts(gradients=self.moved, buffers=FLOAT * min(self.capacity, self.moved // FLOAT))
        return Parts(gradients=self.moved if self.stage == 1 else self.moved / self.ranks)

    def at_average(self) -> Parts:
        """See StrategyPlan."""
        return Parts(buffers=self.sizes.weights) if self.stage == 3 else Parts()

    def of_weights(self, *, second_order: bool) -> list[Message]:
        """See StrategyPlan."""
        if self.stage < 3:
            return []
        return self._gathered(f"weights of {self.sizes.name}", self.sizes.parameters)

    @property
    def every_time(self) -> bool:  # type: ignore[override]
        """See StrategyPlan: what is shared out cannot wait whole."""
        return self.stage >= 2

    def of_gradients(self, arrivals: Sequence[str]) -> list[Message]:
        """See StrategyPlan; one that would not fit any more begins the next message."""
        messages, size = [], 0
        order = arrivals if self.stage >= 2 else self.sizes.trainable
        for done, name in enumerate(order):
            numbers = self._padded(name) if self.stage == 3 else math.prod(self.sizes.parameters[name])
            if size and size + numbers > self.capacity:
                messages.append(self._bucket(size, done))
                size = 0
            size += numbers
        return [*messages, self._bucket(size, len(order))] if size else messages

    def of_step(self) -> list[Message]:
        """See StrategyPlan: the norm, which tells whether all is finite, and weights that others have moved."""
        width = 2 * FLOAT if self.stage == 3 else FLOAT
        norm = Message(f"norm of {self.sizes.name}", "all_reduce", width)
        gather = Message(f"weights of {self.sizes.name}", "all_gather", self.row)
        return [] if self.stage == 0 else [norm] if self.stage == 3 else [norm, gather]

    def whole(self, what: str) -> list[Message]:
        """See StrategyPlan."""
        return self._gathered(what, self.sizes.parameters) if self.stage == 3 else []

    def _bucket(self, size: int, done: int) -> Message:
        what, after = f"gradients of {self.sizes.name}", done if self.stage >= 2 else None
        return Message(what, "reduce_scatter" if self.stage == 3 else "all_reduce", FLOAT * size, after=after)

    def _gathered(self, what: str, names: Iterable[str]) -> list[Message]:
        return [Message(what, "all_gather", FLOAT * self._padded(name)) for name in names]

    def _padded(self, name: str) -> int:
        """Return the elements of a weight whose shares at stage 3 are equal."""
        return -(-math.prod(self.sizes.parameters[name]) // self.ranks) * self.ranks
