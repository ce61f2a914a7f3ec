"""Which images a run is shown, and how often: subsets of a dataset, and classes in other shares than the data's.

All of it is exact, and a pure function of the seed and the epoch. A class that is to have a share of the epoch has
that many turns, to the image, and each of its images as many as any other or one more; which of them, changes with
the epoch. Images keep to the shuffle's windows, so that sampling by class reads as few shards at a time as a plain
shuffle does.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_pipelines.class_counts import ClassCounts
from data_pipelines.errors import DataError
from data_pipelines.order import EachOnce, Integers


@dataclass(frozen=True)
class Shares:
    """What share of the images each class is to have.

    Attributes:
        weights: of classes, by name, >= 0, in any unit; a class of weight 0 is left out.
        others: weight of every class that `weights` does not name.
    """

    weights: Mapping[str, float]
    others: float = 1.0

    def of(self, classes: Sequence[str]) -> list[float]:
        """Return the weight of each class.

        Raises:
            DataError: a weight names no class.
        """
        for name in self.weights:
            if name not in classes:
                raise DataError(
                    f"a weight is set for class {name!r}, but the classes are {', '.join(classes) or '(none)'}"
                )
        return [self.weights.get(name, self.others) for name in classes]


_MARK = 512
"""Shards between two marks of what has passed; a window is found in a few milliseconds from the mark before it."""

LabelsOf = Callable[[int], NDArray[np.int32]]
"""The class index of each row of a shard."""


def subset(counts: Sequence[int], size: int) -> list[Integers]:
    """Choose `size` samples at random, for runs on limited data.

    The choice does not depend on a run's seed, and a smaller subset is part of every larger one.

    Returns:
        The rows of each shard that are chosen, ascending.

    Raises:
        DataError: there are not so many samples.
    """
    total = sum(counts)
    if size > total:
        raise DataError(f"a subset of {size} images was requested, but the dataset has {total}")
    bits = np.random.Philox(key=0).random_raw(total)
    last = np.partition(bits, size - 1)[size - 1]
    chosen = np.flatnonzero(bits <= last)[:size]
    ends = np.cumsum(counts)
    starts = ends - np.asarray(counts)
    cuts = np.searchsorted(chosen, ends)
    return [part - start for part, start in zip(np.split(chosen, cuts[:-1]), starts, strict=True)]


class ByClass:
    """Turns such that classes have given shares of an epoch; see `order.Turns`.

    With n samples in a class that is to have q turns, sample j has as many turns as there are whole numbers in
    ((j q + r) / n, ((j + 1) q + r) / n], where r in [0, n) is drawn anew each epoch: q in all, and no two samples of
    the class differ by more than one.

    Args:
        rows: of each shard, those that take part.
        labels_of: class indices of a shard.
        counts: number of samples of each class that take part, by shard.
        weights: share of each class, >= 0, in any unit.
        seed: of the run.
    """

    def __init__(
        self,
        rows: Sequence[Integers | range],
        labels_of: LabelsOf,
        counts: ClassCounts,
        weights: Sequence[float],
        seed: int,
    ) -> None:
        self._rows, self._labels_of, self._counts, self._seed = rows, labels_of, counts, seed
        self._sizes = counts.totals
        unlabelled = sum(map(len, rows)) - int(self._sizes.sum())
        if unlabelled:
            raise DataError(f"sampling by class needs labels, but {unlabelled} images have none")
        self.quotas = _quotas(int(self._sizes.sum()), np.where(self._sizes > 0, weights, 0.0))
        self._passes: dict[int, _Pass] = {}

    @property
    def total(self) -> int:
        """See Turns."""
        return int(self.quotas.sum())

    def per_shard(self, epoch: int, shards: Integers) -> Integers:
        """See Turns."""
        if epoch not in self._passes:
            self._passes[epoch] = self._pass_of(epoch, shards)
            for old in list(self._passes)[:-2]:
                del self._passes[old]
        return self._passes[epoch].turns

    def of(self, epoch: int, shards: Integers, window: slice) -> tuple[Integers, Integers]:
        """See Turns."""
        own, rows = EachOnce(self._rows).of(epoch, shards, window)
        labels = np.concatenate([self._labels_of(int(s))[np.asarray(self._rows[s])] for s in shards[window]])
        number = self._passed(epoch, shards, window.start)[labels] + _occurrence(labels)
        phase = self._phase(epoch)
        turns = self._turns_before(number + 1, phase, labels) - self._turns_before(number, phase, labels)
        return np.repeat(own, turns), np.repeat(rows, turns)

    def _pass_of(self, epoch: int, shards: Integers) -> "_Pass":
        """Go through an epoch's shards: add up what has passed of each class, and note it now and then."""
        phase, passed = self._phase(epoch), np.zeros(len(self._sizes), np.int64)
        turns = np.empty(len(shards), np.int64)
        marks: list[NDArray[np.integer]] = []
        for place, shard in enumerate(shards.tolist()):
            if place % _MARK == 0:
                marks.append(passed.astype(np.uint32 if self._sizes.max() < 2**32 else np.int64))
            labels, counts = self._counts.of(shard)
            before = passed[labels]
            after = passed[labels] = before + counts
            turns[place] = (self._turns_before(after, phase, labels) - self._turns_before(before, phase, labels)).sum()
        return _Pass(turns, marks)

    def _passed(self, epoch: int, shards: Integers, place: int) -> Integers:
        """Return how many samples of each class come before a place of the epoch's shards."""
        self.per_shard(epoch, shards)
        mark = place // _MARK
        passed = self._passes[epoch].marks[mark].astype(np.int64)
        for shard in shards[mark * _MARK : place].tolist():
            labels, counts = self._counts.of(shard)
            passed[labels] += counts
        return passed

    def _phase(self, epoch: int) -> Integers:
        bits = np.random.Philox(key=np.array([self._seed, epoch], dtype=np.uint64), counter=[0, 0, 1, 0])
        size = np.maximum(self._sizes, 1)
        phase: Integers = (bits.random_raw(len(size)) % size.astype(np.uint64)).astype(np.int64)
        return phase

    def _turns_before(self, number: Integers, phase: Integers, labels: NDArray[np.integer]) -> Integers:
        """Return the turns that the first `number` samples of each of some classes have."""
        turns: Integers = (number * self.quotas[labels] + phase[labels]) // self._sizes[labels]
        return turns


@dataclass(frozen=True)
class _Pass:
    """What is known of an epoch: turns of each shard, and what has passed of each class before every 512th shard."""

    turns: Integers
    marks: list[NDArray[np.integer]]


def _quotas(total: int, weights: NDArray[np.float64]) -> Integers:
    """Divide `total` turns in proportion to weights, to the last one (by the largest remainders)."""
    if not weights.sum() > 0:
        raise DataError("sampling by class: no class that has images has a weight above 0")
    exact = total * weights / weights.sum()
    quotas: Integers = np.floor(exact).astype(np.int64)
    largest = np.argsort(quotas - exact, kind="stable")[: total - int(quotas.sum())]
    quotas[largest] += 1
    return quotas


def _occurrence(labels: NDArray[np.int32]) -> Integers:
    """Return how often each entry's label came before it: [5, 3, 5, 5] gives [0, 0, 1, 2]."""
    order = np.argsort(labels, kind="stable")
    ordered = labels[order]
    first = np.searchsorted(ordered, ordered, side="left")
    occurrence = np.empty(len(labels), dtype=np.int64)
    occurrence[order] = np.arange(len(labels)) - first
    return occurrence
