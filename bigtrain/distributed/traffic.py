"""What the ranks send each other in a step: messages, bytes, the time that takes, and how much of it is hidden.

Measured where the messages are begun, by clocks alone: a few microseconds a message, no message more, no
synchronisation. A blocking operation makes the training wait from its beginning to its end. One that runs beside the
computation, such as DDP's buckets during the backward, makes it wait from the time when the last one of a row was
begun, because that one needs the last gradient; one that is over before the next one of its backward begins is hidden.

On a GPU, where the host does not wait for messages, times are those of launching them and are not reported; count and
bytes hold.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass
class Totals:
    """What the steps since the last reading took, of this rank, all times in seconds.

    Attributes:
        steps: how many.
        seconds: wall time of all of them, data included.
        data_wait: of that, waiting for images.
        messages: collective operations begun.
        bytes: of their tensors, on this rank.
        sending: time with an operation under way.
        exposed: of that, time in which the training waited.
    """

    steps: int = 0
    seconds: float = 0.0
    data_wait: float = 0.0
    messages: int = 0
    bytes: int = 0
    sending: float = 0.0
    exposed: float = 0.0


@dataclass
class _Row:
    """Operations that run beside the computation: from the first one until all are over."""

    begun: list[float] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)

    @property
    def is_over(self) -> bool:
        return bool(self.begun) and len(self.ended) == len(self.begun)


class Traffic:
    """Collects one process's totals; what happens outside of `step` does not count."""

    def __init__(self) -> None:
        self._totals = Totals()
        self._counting = False
        self._row = _Row()

    @contextmanager
    def step(self) -> Iterator[None]:
        """Count what is sent inside, and take the time."""
        began, self._counting = time.perf_counter(), True
        try:
            yield
        finally:
            self._counting = False
            self._close_row()
            self._totals.seconds += time.perf_counter() - began
            self._totals.steps += 1

    @contextmanager
    def data_wait(self) -> Iterator[None]:
        """Count as waiting for data what is done inside."""
        began = time.perf_counter()
        yield
        self._totals.data_wait += time.perf_counter() - began

    @contextmanager
    def blocking(self, size: int) -> Iterator[None]:
        """Count a message of `size` bytes that is sent inside, and waited for."""
        if not self._counting:
            yield
            return
        began = time.perf_counter()
        yield
        seconds = time.perf_counter() - began
        self._count(size)
        self._totals.sending += seconds
        self._totals.exposed += seconds

    def average_beside(self, tensor: Tensor) -> torch.futures.Future[Tensor]:
        """Begin to replace a tensor by its mean over all ranks, and go on; the future holds the tensor."""
        ended = self.begin_beside(tensor.nbytes, waited=False)
        work = dist.all_reduce(tensor.div_(dist.get_world_size()), async_op=True)
        assert work is not None

        def finish(future: torch.futures.Future[list[Tensor]]) -> Tensor:
            ended()
            return future.value()[0]

        return work.get_future().then(finish)

    def begin_beside(self, size: int, *, waited: bool = True) -> Callable[[], None]:
        """Count a message of `size` bytes that runs beside the computation; call what is returned when it is over.

        Args:
            size: bytes.
            waited: whether messages that are over by now were waited for; if the computation just went on to this one,
                they were not, and somebody says when it waits, see `waited`.
        """
        if not self._counting:
            return lambda: None
        if self._row.is_over:
            self._close_row(waited)
        row = self._row
        self._count(size)
        row.begun.append(time.perf_counter())
        return lambda: row.ended.append(time.perf_counter())

    def waited(self) -> None:
        """Take note that the training has just waited for the messages that run beside it."""
        if self._row.is_over:
            self._close_row()

    def read(self) -> Totals:
        """Return the totals and start afresh."""
        totals, self._totals = self._totals, Totals()
        return totals

    def _count(self, size: int) -> None:
        self._totals.messages += 1
        self._totals.bytes += size

    def _close_row(self, waited: bool = True) -> None:
        row, self._row = self._row, _Row()
        if row.ended:
            last = max(row.ended)
            self._totals.sending += last - row.begun[0]
            self._totals.exposed += max(last - row.begun[-1], 0.0) if waited else 0.0


traffic = Traffic()
"""This process's."""
