"""Fetch shards that lie elsewhere before they are needed."""

from data_pipelines.batches import BatchPlan, Order
from data_pipelines.daemons import DaemonThreads
from data_pipelines.errors import DataError
from data_pipelines.faults import log
from data_pipelines.read import ShardDataset

_AT_ONCE = 4


class Prefetcher:
    """Fetches the shards of the window that is read and of the next one, in the order's order.

    Args:
        dataset: whose shards; those on this machine already need nothing.
        order: of its samples.
        plan: of the batches. Ranks begin with different shards of a window, as those of a node may share it.
    """

    def __init__(self, dataset: ShardDataset, order: Order, plan: BatchPlan) -> None:
        self._dataset, self._order, self._plan = dataset, order, plan
        self._threads = None if dataset.is_local else DaemonThreads(_AT_ONCE, "fetch")
        self._wanted: dict[int, None] = {}

    def at(self, position: int) -> None:
        """Reading has come to `position`: see that what comes is on its way."""
        if self._threads is None:
            return
        lanes = [self._order.upcoming_shards(place) for place in self._order.lanes_of(self._plan.parts(position))]
        windows = [
            window for both in zip(*lanes, strict=True) for window in both
        ]  # what is read now before what follows
        wanted = dict.fromkeys(shard for window in windows for shard in self._turned(window))
        for shard in wanted:
            if shard not in self._wanted:
                self._threads.submit(self._fetch, shard)
        self._wanted = wanted

    def close(self) -> None:
        """Begin nothing new."""
        if self._threads is not None:
            self._threads.close()

    def _turned(self, shards: list[int]) -> list[int]:
        first = self._plan.rank % len(shards)
        return shards[first:] + shards[:first]

    def _fetch(self, shard: int) -> None:
        try:
            self._dataset.open_tar(shard).close()
        except DataError as error:
            log.info("%s", error)  # who reads the shard will meet the same, and knows what to do
