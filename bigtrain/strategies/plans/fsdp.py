"""What FSDP2 keeps and sends."""

import math
from collections.abc import Sequence

from bigtrain.distributed.precision import Precision
from bigtrain.engine.optimizers import OptimizerConfig
from bigtrain.strategies.gathering import in_messages
from bigtrain.strategies.plans.base import FLOAT, Message, Parts, StrategyPlan
from bigtrain.strategies.plans.work import Sizes, Work


class FSDPPlan(StrategyPlan):
    """A share of everything, and a frozen whole copy for the rivals; whole weights in the player's own phase.

    Args:
        sizes: the player's.
        optimizer: the player's.
        ranks: all of them.
        precision: of the run.
        accumulation: micro-batches a step.
        shard_ranks: ranks that share out.
    """

    def __init__(
        self,
        sizes: Sizes,
        optimizer: OptimizerConfig,
        ranks: int,
        precision: Precision,
        accumulation: int,
        *,
        shard_ranks: int,
    ) -> None:
        super().__init__(sizes, optimizer, ranks, precision, accumulation)
        self.shard_ranks, self.halved = shard_ranks, 0
        self.width = 2 if precision == "pure_bf16" else FLOAT
        self.padded = [sum(self._padded(name) for name in part) for part in sizes.parts]
        self.scalars = [name for name, shape in sizes.parameters.items() if not shape]
        self.row = sum(self.padded)

    def _padded(self, name: str) -> int:
        """Return the elements of a parameter whose rows divide over the ranks."""
        rows, *rest = self.sizes.parameters[name]
        return -(-rows // self.shard_ranks) * self.shard_ranks * math.prod(rest)

    def kept(self) -> Parts:
        """See StrategyPlan."""
        share = FLOAT * (self.row // self.shard_ranks + len(self.scalars))
        moments = self.moments_of(share, len(self.sizes.trainable))
        copy = self.sizes.weights
        return Parts(parameters=share + self.sizes.buffers, optimizer=moments, buffers=copy)

    def in_phase(self, work: Work) -> list[Parts]:
        """See StrategyPlan: whole weights, whole gradients until they are scattered, and shares of these."""
        whole = self.width * self.row
        gradients = whole if self.accumulation > 1 else self.width * max(self.padded, default=0)
        share = FLOAT * self.row // self.shard_ranks
        buffers = whole + FLOAT * max(self.padded, default=0)
        return [Parts(gradients=gradients + share, activations=work.activations, buffers=buffers)]

    def at_step(self) -> Parts:
        """See StrategyPlan."""
        return Parts(gradients=FLOAT * self.row // self.shard_ranks)

    def at_average(self) -> Parts:
        """See StrategyPlan: whole weights, and the last message with everyone's shares and with one's own."""
        together = max((message.size for message in self.whole("")), default=0)
        return Parts(buffers=self.sizes.weights + together * (1 + 1 / self.shard_ranks))

    def of_weights(self, *, second_order: bool) -> list[Message]:
        """See StrategyPlan.

        Where a gradient is taken inside of the forward, FSDP2 gives back what lies outside of the stages after it and
        gathers it again, and everything for the next micro-batch.
        """
        sizes = [*self.padded, *self.padded[-1:]] * self.accumulation if second_order else self.padded
        what = f"weights of {self.sizes.name}"
        return [Message(what, "all_gather", self.width * size, self.shard_ranks) for size in sizes if size]

    def of_gradients(self, arrivals: Sequence[str]) -> list[Message]:
        """See StrategyPlan."""
        what = f"gradients of {self.sizes.name}"
        arrived = {name: number for number, name in enumerate(arrivals, 1)}
        messages = []
        for part, size in ((part, size) for part, size in zip(self.sizes.parts, self.padded, strict=True) if size):
            after = max((arrived.get(name, 0) for name in part), default=0)
            messages.append(Message(what, "reduce_scatter", FLOAT * size, self.shard_ranks, after=after))
            if self.shard_ranks < self.ranks:
                share = FLOAT * size // self.shard_ranks
                groups = self.ranks // self.shard_ranks
                messages.append(Message(what, "all_reduce", share, groups, self.shard_ranks, after, counted=False))
        return sorted(messages, key=lambda message: message.after or 0)

    def of_step(self) -> list[Message]:
        """See StrategyPlan."""
        name, size = self.sizes.name, FLOAT * len(self.scalars)
        scalars = [Message(f"gradients of {name}", "all_reduce", size)] if self.scalars else []
        return [*scalars, Message(f"norm of {name}", "all_reduce", FLOAT)]

    def whole(self, what: str) -> list[Message]:
        """See StrategyPlan."""
        sharded = [(name, self._padded(name)) for name, shape in self.sizes.parameters.items() if shape]
        sizes = [FLOAT * sum(count for _, count in together) for together in in_messages(sharded)]
        return [Message(what, "all_gather", size, self.shard_ranks) for size in sizes]
