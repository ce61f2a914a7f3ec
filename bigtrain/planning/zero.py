"""What DeepSpeed's ZeRO keeps and sends; see `sharing`."""

import math
from collections.abc import Iterable, Sequence

from bigtrain.distributed.precision import Precision
from bigtrain.planning.sharing import Message, Parts, Single
from bigtrain.planning.work import Sizes, Work
from bigtrain.strategies.deepspeed import DeepSpeedConfig

_FLOAT = 4
_ALIGNMENT = 2
"""Stages 1 and 2 fill a player's row of weights up to a multiple of this times the number of ranks."""


class ZeRO(Single):
    """Shares of moments, of gradients from stage 2 on, of weights at stage 3.

    Args:
        sizes: the player's.
        ranks: all of them.
        precision: of the run.
        accumulation: micro-batches a step.
        settings: the strategy's.
    """

    def __init__(
        self, sizes: Sizes, ranks: int, precision: Precision, accumulation: int, settings: DeepSpeedConfig
    ) -> None:
        super().__init__(sizes, ranks, precision, accumulation)
        self.stage, self.offloaded = settings.stage, settings.offload_optimizer
        self.capacity = int(settings.bucket_mb * 2**20 / _FLOAT)
        multiple = _ALIGNMENT * ranks
        self.row = _FLOAT * -(-self.moved // _FLOAT // multiple) * multiple
        self.whole_row = sum(_FLOAT * self._padded(name) for name in sizes.trainable)

    def kept(self) -> Parts:
        """See Single: the row of weights, and this rank's float32 share of it beside its moments."""
        sizes = self.sizes
        if self.stage == 0:
            return Parts(parameters=sizes.weights + sizes.buffers, optimizer=self.moments)
        share = (self.whole_row if self.stage == 3 else self.row) / self.ranks
        moments = 0.0 if self.offloaded else 2 * share + _FLOAT
        master = 0.0 if self.offloaded else share
        frozen = sizes.weights - self.moved
        if self.stage == 3:
            buffers = sizes.weights + _FLOAT * self.capacity  # the rivals' copy, a bucket
            return Parts(parameters=share + master + frozen + sizes.buffers, optimizer=moments, buffers=buffers)
        return Parts(parameters=self.row + master + frozen + sizes.buffers, optimizer=moments)

    def in_phase(self, work: Work) -> list[Parts]:
        """See Single; a row for gradients comes with the first of them, two at stage 2, where one is sent meanwhile."""
        if self.stage == 0:
            return super().in_phase(work)
        bucket, several = _FLOAT * self.capacity, self.accumulation > 1
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
        """See Single."""
        if self.stage == 0:
            return Parts(gradients=self.moved, buffers=_FLOAT * min(self.capacity, self.moved // _FLOAT))
        return Parts(gradients=self.moved if self.stage == 1 else self.moved / self.ranks)

    def at_average(self) -> Parts:
        """See Single."""
        return Parts(buffers=self.sizes.weights) if self.stage == 3 else Parts()

    def of_weights(self, *, second_order: bool) -> list[Message]:
        """See Single."""
        if self.stage < 3:
            return []
        return self._gathered(f"weights of {self.sizes.name}", self.sizes.parameters)

    @property
    def every_time(self) -> bool:  # type: ignore[override]
        """See Single: what is shared out cannot wait whole."""
        return self.stage >= 2

    def of_gradients(self, arrivals: Sequence[str]) -> list[Message]:
        """See Single; one that would not fit any more begins the next message."""
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
        """See Single: the norm, which tells whether all is finite, and weights that others have moved."""
        width = 2 * _FLOAT if self.stage == 3 else _FLOAT
        norm = Message(f"norm of {self.sizes.name}", "all_reduce", width)
        gather = Message(f"weights of {self.sizes.name}", "all_gather", self.row)
        return [] if self.stage == 0 else [norm] if self.stage == 3 else [norm, gather]

    def whole(self, what: str) -> list[Message]:
        """See Single."""
        return self._gathered(what, self.sizes.parameters) if self.stage == 3 else []

    def _bucket(self, size: int, done: int) -> Message:
        what, after = f"gradients of {self.sizes.name}", done if self.stage >= 2 else None
        return Message(what, "reduce_scatter" if self.stage == 3 else "all_reduce", _FLOAT * size, after=after)

    def _gathered(self, what: str, names: Iterable[str]) -> list[Message]:
        return [Message(what, "all_gather", _FLOAT * self._padded(name)) for name in names]

    def _padded(self, name: str) -> int:
        """Return the elements of a weight whose shares at stage 3 are equal."""
        return -(-math.prod(self.sizes.parameters[name]) // self.ranks) * self.ranks
