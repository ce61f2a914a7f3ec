"""The order of the samples: a pure function of (seed, position), whatever the world size or the number of workers.

An endless stream of positions 0, 1, 2, ... runs through the dataset once an epoch. In each epoch the shards are
permuted, cut into windows of a few shards, and the samples inside each window are permuted: a shuffle of window x
shard samples that still reads few shards at a time. Permutations sort the raw output of Philox, whose bits NumPy
guarantees, so that the order of a run does not depend on NumPy's version.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Permutation = NDArray[np.int64]


class Location(NamedTuple):
    """Where a sample lies."""

    shard: int
    row: int


class SampleOrder:
    """Maps positions of the stream to samples.

    Args:
        counts: number of samples of each shard.
        seed: of the shuffle, 0 <= seed < 2**63.
        window: number of shards that are shuffled together.
    """

    def __init__(self, counts: Sequence[int], seed: int, window: int = 8) -> None:
        if not counts or min(counts) < 1:
            raise ValueError("an order needs at least one shard, and no shard may be empty")
        self._counts = np.asarray(counts, dtype=np.int64)
        self._seed, self._window = seed, window
        self.size = int(self._counts.sum())
        self._epoch = lru_cache(maxsize=2)(self._plan_epoch)
        self._shuffle = lru_cache(maxsize=4)(self._shuffle_window)

    def locate(self, position: int) -> Location:
        """Return the sample at `position` >= 0 of the endless stream."""
        epoch, offset = divmod(position, self.size)
        shards, starts = self._epoch(epoch)
        window = int(np.searchsorted(starts, offset, side="right")) - 1
        inside = int(self._shuffle(epoch, window)[offset - int(starts[window])])
        for shard in shards[window * self._window : (window + 1) * self._window]:
            if inside < self._counts[shard]:
                return Location(int(shard), inside)
            inside -= int(self._counts[shard])
        raise AssertionError("a window holds fewer samples than its shards")

    def _plan_epoch(self, epoch: int) -> tuple[Permutation, Permutation]:
        """Permute the shards and find where each window starts in the epoch."""
        shards = _permutation(len(self._counts), self._seed, epoch, 0)
        sizes = np.add.reduceat(self._counts[shards], np.arange(0, len(shards), self._window))
        return shards, np.concatenate([[0], np.cumsum(sizes)[:-1]])

    def _shuffle_window(self, epoch: int, window: int) -> Permutation:
        shards, _ = self._epoch(epoch)
        count = int(self._counts[shards[window * self._window : (window + 1) * self._window]].sum())
        return _permutation(count, self._seed, epoch, window + 1)


def _permutation(count: int, seed: int, epoch: int, purpose: int) -> Permutation:
    bits = np.random.Philox(key=np.array([seed, epoch], dtype=np.uint64), counter=[0, 0, 0, purpose])
    return np.argsort(bits.random_raw(count), kind="stable")
