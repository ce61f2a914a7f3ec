"""An endless stream of batches for one rank: equal on all ranks, resumable from one integer.

Global batch b covers positions [b * G, (b + 1) * G) of the sample order; rank r of R takes the r-th contiguous slice
of it. Nothing else is random, so position is the whole state, and any number of ranks sees the same samples.
"""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from data_pipelines.codec import Pixels
from data_pipelines.order import SampleOrder
from data_pipelines.read import Labels, ShardDataset


@dataclass(frozen=True)
class HostBatch:
    """One rank's share of a global batch.

    Attributes:
        images: uint8, shape [n, C, H, W].
        labels: int64, shape [n]; -1 where unlabelled.
        positions: int64, shape [n], each sample's place in the stream.
    """

    images: Pixels
    labels: Labels
    positions: Labels


class BatchStream(Iterator[HostBatch]):
    """Iterate over this rank's batches, read ahead by threads.

    Args:
        dataset: the shards.
        seed: of the order.
        global_batch: samples of a step over all ranks.
        rank: of this process.
        world_size: number of ranks; must divide `global_batch`.
        window: shards shuffled together.
        read_ahead: batches prepared in advance.
        workers: threads that read and decode.
    """

    def __init__(
        self,
        dataset: ShardDataset,
        *,
        seed: int,
        global_batch: int,
        rank: int = 0,
        world_size: int = 1,
        window: int = 8,
        read_ahead: int = 2,
        workers: int = 1,
    ) -> None:
        if global_batch % world_size:
            raise ValueError(f"a global batch of {global_batch} does not divide over {world_size} ranks")
        self._dataset = dataset
        self._order = SampleOrder([shard.count for shard in dataset.manifest.shards], seed, window)
        self._global_batch = global_batch
        self._slice = slice(rank * global_batch // world_size, (rank + 1) * global_batch // world_size)
        self._read_ahead = read_ahead
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="batch")
        self._pending: deque[Future[HostBatch]] = deque()
        self._next_start = 0

    def seek(self, position: int) -> None:
        """Go to `position`, a multiple of the global batch: the next batch begins there."""
        if position % self._global_batch:
            raise ValueError(f"position {position} is not a multiple of the global batch {self._global_batch}")
        for future in self._pending:
            future.cancel()
        self._pending.clear()
        self._next_start = position

    def __next__(self) -> HostBatch:
        """Return the next batch, waiting for it if need be."""
        while len(self._pending) < self._read_ahead + 1:
            self._pending.append(self._threads.submit(self._make, self._next_start))
            self._next_start += self._global_batch
        return self._pending.popleft().result()

    def close(self) -> None:
        """Stop reading ahead."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _make(self, start: int) -> HostBatch:
        positions = np.arange(start + self._slice.start, start + self._slice.stop, dtype=np.int64)
        images, labels = self._dataset.read([self._order.locate(int(position)) for position in positions])
        return HostBatch(images, labels, positions)
