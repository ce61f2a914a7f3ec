"""The order of the samples: a pure function of (seed, position), whatever the world size or the number of workers.

An endless stream of positions 0, 1, 2, ... runs through the dataset once an epoch. In each epoch the shards are
permuted, cut into windows of a few shards, and the samples inside each window are permuted: a shuffle of window x
shard samples that still reads few shards at a time. Permutations sort the raw output of Philox, whose bits NumPy
guarantees, so that the order of a run does not depend on NumPy's version.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]

_NEAR_SUBSTITUTES = 4
"""Substitutes that are looked for in the sample's own window, whose shards are open; then they come from anywhere."""


class Location(NamedTuple):
    """Where a sample lies."""

    shard: int
    row: int


class Turns(Protocol):
    """How often each sample comes in an epoch; a plain shuffle shows every one of them once."""

    @property
    def total(self) -> int:
        """Turns of an epoch; the same in each."""

    def per_shard(self, epoch: int, shards: Integers) -> Integers:
        """Return how many turns the samples of each shard have together, with the shards in the epoch's order."""

    def of(self, epoch: int, shards: Integers, window: slice) -> tuple[Integers, Integers]:
        """Return shard and row of each turn in a window of the epoch's shards, before the window is shuffled."""


@dataclass(frozen=True)
class EachOnce:
    """Every sample has one turn an epoch.

    Attributes:
        rows: of each shard, those that take part.
    """

    rows: Sequence[Integers | range]

    @property
    def total(self) -> int:
        """See Turns."""
        return int(self._counts.sum())

    def per_shard(self, epoch: int, shards: Integers) -> Integers:
        """See Turns."""
        return self._counts[shards]

    @cached_property
    def _counts(self) -> Integers:
        return np.array([len(rows) for rows in self.rows], dtype=np.int64)

    def of(self, epoch: int, shards: Integers, window: slice) -> tuple[Integers, Integers]:
        """See Turns."""
        chosen = shards[window]
        rows = [np.asarray(self.rows[shard], dtype=np.int64) for shard in chosen]
        return np.repeat(chosen, [len(part) for part in rows]), np.concatenate(rows)


@dataclass(frozen=True)
class Window:
    """The shuffled samples of some shards: the one at place i of the window is (shards[i], rows[i])."""

    shards: Integers
    rows: Integers


class SampleOrder:
    """Maps positions of the stream to samples.

    Args:
        counts: number of samples of each shard.
        seed: of the shuffle, 0 <= seed < 2**63.
        window: number of shards that are shuffled together.
        turns: how often each sample comes in an epoch; by default, once.
        kept: shuffled windows that are kept, of those that were looked into last.
    """

    def __init__(
        self, counts: Sequence[int], seed: int, window: int = 8, turns: Turns | None = None, *, kept: int = 4
    ) -> None:
        if not len(counts) or min(counts) < 1:
            raise ValueError("an order needs at least one shard, and no shard may be empty")
        self._shards, self._seed, self._window = len(counts), seed, window
        self._turns = turns or EachOnce([range(count) for count in counts])
        self.size = self._turns.total
        self._epoch = lru_cache(maxsize=2)(self._plan_epoch)
        self._shuffled = lru_cache(maxsize=kept)(self._shuffle_window)

    def locate(self, position: int) -> Location:
        """Return the sample at `position` >= 0 of the endless stream."""
        return self.locate_span(position, position + 1)[0]

    def locate_span(self, start: int, stop: int) -> list[Location]:
        """Return the samples at the positions from `start` to before `stop`."""
        found: list[Location] = []
        while start < stop:
            epoch, offset = divmod(start, self.size)
            _, starts = self._epoch(epoch)
            number = self._window_at(epoch, offset)
            window, first = self._shuffled(epoch, number), offset - int(starts[number])
            part = slice(first, first + stop - start)
            shards, rows = window.shards[part].tolist(), window.rows[part].tolist()
            found += map(Location, shards, rows)
            start += len(rows)
        return found

    def substitute(self, position: int, attempt: int) -> Location:
        """Return the sample that takes the place of a damaged one.

        The first attempts stay in the window of `position`, where the shards are open; later ones go anywhere in the
        epoch. A function of the seed, the position and the attempt alone: ranks and resumed runs agree.
        """
        epoch, offset = divmod(position, self.size)
        _, starts = self._epoch(epoch)
        low, high = 0, self.size
        if attempt < _NEAR_SUBSTITUTES:
            number = self._window_at(epoch, offset)
            low, high = int(starts[number]), int(starts[number + 1])
        bits = np.random.Philox(key=np.array([self._seed, position], dtype=np.uint64), counter=[0, 0, 2, attempt])
        return self.locate(epoch * self.size + low + int(bits.random_raw()) % (high - low))

    def upcoming_shards(self, position: int) -> tuple[list[int], list[int]]:
        """Return the shards of the window of `position`, and those of the window after it."""
        epoch, offset = divmod(position, self.size)
        shards, _ = self._epoch(epoch)
        start = self._window_at(epoch, offset) * self._window
        here, following = shards[start : start + self._window], shards[start + self._window : start + 2 * self._window]
        if not len(following):
            following = self._epoch(epoch + 1)[0][: self._window]
        return here.tolist(), following.tolist()

    def _window_at(self, epoch: int, offset: int) -> int:
        """Return the number of the window that holds a place of the epoch; a window without turns holds none."""
        _, starts = self._epoch(epoch)
        return int(np.searchsorted(starts, offset, side="right")) - 1

    def _plan_epoch(self, epoch: int) -> tuple[Integers, Integers]:
        """Permute the shards, and find where each window starts in the epoch and the last one ends."""
        shards = permutation(self._shards, self._seed, epoch, 0)
        turns = self._turns.per_shard(epoch, shards)
        sizes = np.add.reduceat(turns, np.arange(0, len(shards), self._window))
        return shards, np.concatenate([[0], np.cumsum(sizes)])

    def _shuffle_window(self, epoch: int, number: int) -> Window:
        window = slice(number * self._window, (number + 1) * self._window)
        shards, rows = self._turns.of(epoch, self._epoch(epoch)[0], window)
        places = permutation(len(rows), self._seed, epoch, number + 1)
        return Window(shards[places], rows[places])


class LaneOrder:
    """The order of batches that are read in lanes, so that each node reads a part of the shards.

    An epoch's samples, in the order of a `SampleOrder`, are cut into as many equal parts as there are lanes. Each batch
    takes its first slots from the first lane, the next ones from the second, and so on. Ranks take neighbouring slots,
    so a rank, and a node, meets few lanes, whatever their number: the samples of a batch do not depend on it. Of an
    epoch, the less than `lanes` samples that are left over do not come; in the next one they are others.

    One lane is the order itself.

    Args:
        order: of the samples.
        lanes: how many.
        batch: slots of a batch; a multiple of `lanes`.

    Attributes:
        size: samples of an epoch.
    """

    def __init__(self, order: SampleOrder, lanes: int, batch: int) -> None:
        if batch % lanes:
            raise ValueError(f"a batch of {batch} does not divide into {lanes} lanes")
        if order.size < lanes:
            raise ValueError(f"an order of {order.size} samples does not divide into {lanes} lanes")
        self._order, self._slots, self._batch = order, batch // lanes, batch
        self._length = order.size // lanes  # of a lane
        self.size = order.size

    def locate(self, position: int) -> Location:
        """Return the sample at `position` >= 0 of the endless stream."""
        return self._order.locate(self._flat(position)[0])

    def locate_span(self, start: int, stop: int) -> list[Location]:
        """Return the samples at the positions from `start` to before `stop`."""
        found: list[Location] = []
        while start < stop:
            first, left = self._flat(start)
            found += self._order.locate_span(first, first + min(left, stop - start))
            start += min(left, stop - start)
        return found

    def substitute(self, position: int, attempt: int) -> Location:
        """Return the sample that takes the place of a damaged one; see `SampleOrder.substitute`."""
        return self._order.substitute(self._flat(position)[0], attempt)

    def upcoming_shards(self, position: int) -> tuple[list[int], list[int]]:
        """Return the shards of the window of `position`, and those of the window after it in its lane."""
        return self._order.upcoming_shards(self._flat(position)[0])

    def lanes_of(self, parts: Iterable[range]) -> list[int]:
        """Return a position in each lane that some parts of a batch meet."""
        starts = (part.start - part.start % self._slots for part in parts)
        ends = (part.stop for part in parts)
        return sorted(
            {place for start, end in zip(starts, ends, strict=True) for place in range(start, end, self._slots)}
        )

    def _flat(self, position: int) -> tuple[int, int]:
        """Return the place in the order of a position, and how many positions go on from there side by side."""
        number, slot = divmod(position, self._batch)
        lane, within = divmod(slot, self._slots)
        epoch, offset = divmod(number * self._slots + within, self._length)
        return epoch * self._order.size + lane * self._length + offset, min(self._slots - within, self._length - offset)


def trained_counts(counts: Sequence[int], held_out: float) -> list[int]:
    """Return how many samples of each shard are trained on; the rest, the last of each shard, are held out.

    Args:
        counts: number of samples of each shard.
        held_out: share of all samples, spread evenly over the shards; each shard keeps at least one to train on.
    """
    ends = np.floor(np.cumsum(counts) * held_out + 1e-9).astype(np.int64)
    kept_back = np.diff(ends, prepend=0)
    return list(map(int, np.maximum(np.asarray(counts) - kept_back, 1)))


def permutation(count: int, seed: int, epoch: int, purpose: int) -> Integers:
    """Return a random order of `count` things."""
    bits = np.random.Philox(key=np.array([seed, epoch], dtype=np.uint64), counter=[0, 0, 0, purpose])
    return np.argsort(bits.random_raw(count), kind="stable")


def stream_seed(seed: int, name: str) -> int:
    """Return the seed of a stream's order: 64 bits of a hash of the run's seed and the stream's name.

    The seed of the stream without a name is the run's own.
    """
    if not name:
        return seed
    return int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:8], "little")
