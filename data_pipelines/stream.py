"""An endless stream of batches for one rank: equal on all ranks, resumable from one integer.

Global batch b covers positions [b * G, (b + 1) * G) of the sample order, cut into pieces (the micro-batches) of
neighbours; rank r of R takes the r-th contiguous slice of each. Nothing else is random, so position is the whole state,
and any number of ranks sees the same samples, and the same ones together in a piece.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from data_pipelines.batches import BatchMaker, BatchPlan
from data_pipelines.faults import FaultLog
from data_pipelines.fields.decoder import Fields
from data_pipelines.order import Integers
from data_pipelines.prefetch import Prefetcher
from data_pipelines.readers import ProcessReaders, Readers, ThreadReaders, WhileWaiting, go_on_waiting

Loader = Literal["threads", "processes"]


@dataclass(frozen=True)
class HostBatch:
    """One rank's share of a global batch.

    Attributes:
        fields: those of the plan by name, such as `image`, uint8, shape [n, C, H, W], and `class`, int64, shape [n]
            (-1 where unlabelled); where they were read by a process, valid until the next batch is taken.
        positions: int64, shape [n], each sample's place in the stream.
    """

    fields: Fields
    positions: Integers


class BatchStream(Iterator[HostBatch]):
    """Iterate over this rank's batches, read ahead.

    Args:
        plan: what is in the batches.
        loader: whether threads of this process read, or processes of their own. Threads need no time to start;
            processes leave this process's interpreter to the training.
        workers: how many.
        read_ahead: batches prepared in advance; by default, one more than there are workers.
        quarantine: file that lists what was damaged.
        while_waiting: called again and again while a batch is waited for; it may raise.
        name: of the stream, which is put before the names of files that are damaged; empty if there is only one.

    Attributes:
        dataset: what is read.
        faults: what was damaged on the way.
    """

    def __init__(
        self,
        plan: BatchPlan,
        *,
        loader: Loader = "threads",
        workers: int = 1,
        read_ahead: int | None = None,
        quarantine: Path | None = None,
        while_waiting: WhileWaiting = go_on_waiting,
        name: str = "",
    ) -> None:
        self._while_waiting = while_waiting
        self.plan, self.faults = plan, FaultLog(quarantine, name)
        self.dataset = plan.open(self.faults)
        self._maker = BatchMaker(plan, self.dataset, self.faults)
        self._read_ahead = workers + 1 if read_ahead is None else read_ahead
        self._readers: Readers
        if loader == "threads":
            self._readers = ThreadReaders(self._maker, workers)
        else:
            self._readers = ProcessReaders(plan, self._maker.decoders, self.faults, workers, self._read_ahead + 2)
        self._prefetcher = Prefetcher(self.dataset, self._maker.order, plan)
        self._next = self._asked = 0

    def seek(self, position: int) -> None:
        """Go to `position`, a multiple of the global batch: the next batch begins there."""
        if position % self.plan.global_batch:
            raise ValueError(f"position {position} is not a multiple of the global batch {self.plan.global_batch}")
        self._readers.forget()
        self._next = self._asked = position

    def __next__(self) -> HostBatch:
        """Return the next batch, waiting for it if need be.

        Raises:
            DataError: it cannot be had.
        """
        while self._asked <= self._next + self._read_ahead * self.plan.global_batch:
            self._prefetcher.at(self._asked)
            self._readers.ask(self._asked)
            self._asked += self.plan.global_batch
        fields = self._readers.take(self._while_waiting)
        positions = np.array(self._maker.positions(self._next), dtype=np.int64)
        self._next += self.plan.global_batch
        return HostBatch(fields, positions)

    def has_read(self, batches: int) -> bool:
        """Tell whether so many next batches, or as many as are read ahead, have been read."""
        ahead = (self._asked - self._next) // self.plan.global_batch
        return ahead > 0 and self._readers.have(min(batches, ahead))

    def close(self) -> None:
        """Stop reading ahead."""
        self.faults.close()
        self._prefetcher.close()
        self._readers.close()
