"""Fetch shards that lie elsewhere before they are needed."""

from concurrent.futures import ThreadPoolExecutor

from data_pipelines.errors import DataError
from data_pipelines.faults import log
from data_pipelines.order import SampleOrder
from data_pipelines.read import ShardDataset

_AT_ONCE = 4


class Prefetcher:
    """Fetches the shards of the window that is read and of the next one, in the order's order.

    Args:
        dataset: whose shards; those on this machine already need nothing.
        order: of its samples.
        first: which of a window's shards to begin with, so that the ranks of a node begin with different ones.
    """

    def __init__(self, dataset: ShardDataset, order: SampleOrder, *, first: int = 0) -> None:
        self._dataset, self._order, self._first = dataset, order, first
        self._threads = None if dataset.is_local else ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="fetch")
        self._wanted: list[int] = []

    def at(self, position: int) -> None:
        """Reading has come to `position`: see that what comes is on its way."""
        if self._threads is None:
            return
        wanted = [shard for window in self._order.upcoming_shards(position) for shard in self._turned(window)]
        for shard in wanted:
            if shard not in self._wanted:
                self._threads.submit(self._fetch, shard)
        self._wanted = wanted

    def close(self) -> None:
        """Begin nothing new."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    def _turned(self, shards: list[int]) -> list[int]:
        first = self._first % len(shards)
        return shards[first:] + shards[:first]

    def _fetch(self, shard: int) -> None:
        try:
            self._dataset.open_tar(shard).close()
        except DataError as error:
            log.info("%s", error)  # who reads the shard will meet the same, and knows what to do
