"""What DDP keeps and sends."""

import math
from collections.abc import Sequence

from bigtrain.distributed.precision import Precision
from bigtrain.engine.optimizers import OptimizerConfig
from bigtrain.strategies.plans.base import FLOAT, Message, Parts, StrategyPlan
from bigtrain.strategies.plans.work import Sizes, Work


class DDPPlan(StrategyPlan):
    """All of everything; gradients live in buckets, which are sent as they fill.

    Args:
        sizes: the player's.
        optimizer: the player's.
        ranks: all of them.
        precision: of the run.
        accumulation: micro-batches a step.
        bucket_mb: size of a gradient bucket in MiB.
    """

    def __init__(
        self,
        sizes: Sizes,
        optimizer: OptimizerConfig,
        ranks: int,
        precision: Precision,
        accumulation: int,
        *,
        bucket_mb: float,
    ) -> None:
        super().__init__(sizes, optimizer, ranks, precision, accumulation)
        self.capacity = int(bucket_mb * 2**20)

    def kept(self) -> Parts:
        """See StrategyPlan."""
        bucket = self.moved - self.halved
        return super().kept() + Parts(gradients=bucket)

    def in_phase(self, work: Work) -> list[Parts]:
        """See StrategyPlan; gradients of all micro-batches but the last are not in the buckets yet."""
        beside = self.moved if self.accumulation > 1 or self.halved else 0
        return [Parts(gradients=beside, activations=work.activations)]

    def at_step(self) -> Parts:
        """See StrategyPlan."""
        return Parts(gradients=self.moved) if self.halved else Parts()

    def of_gradients(self, arrivals: Sequence[str]) -> list[Message]:
        """See StrategyPlan; buckets from the last weight to the first, each sent when it and those before are full."""
        what = f"gradients of {self.sizes.name}"
        if self.halved and self.accumulation > 1:
            return [Message(what, "all_reduce", self.moved)]
        width = FLOAT // 2 if self.halved else FLOAT
        arrival = {name: done for done, name in enumerate(arrivals, 1)}
        order = [name for name in reversed(self.sizes.parameters) if name in arrival]
        messages, size, filled, done = [], 0, 0, 0
        for name in order:
            size += math.prod(self.sizes.parameters[name])
            filled += width * math.prod(self.sizes.parameters[name])
            done = max(done, arrival[name])
            if filled >= self.capacity or name == order[-1]:
                messages.append(Message(what, "all_reduce", FLOAT * size, after=done))
                size = filled = 0
        return messages
