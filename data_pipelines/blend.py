"""Several datasets as one stream, in shares that may change during a run: a function of the position, as one alone is.

Positions are cut into blocks. How many samples of a block are of which dataset follows from the weights in its middle,
rounded so that each share is right on the average; which of them, a permutation tells. The numbers of all blocks before
one, summed, say how far each dataset has come: nothing must be remembered.
"""

import threading
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from io import BufferedReader
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_pipelines.batches import BatchPlan, Order, trained_rows
from data_pipelines.errors import DataError
from data_pipelines.faults import Fault, FaultLog
from data_pipelines.fields.decoder import Fields, new_batch
from data_pipelines.manifest import CLASS, FORMAT, Manifest
from data_pipelines.order import EachOnce, Integers, Location, SampleOrder, permutation, stream_seed
from data_pipelines.read import DamageError, ShardDataset

_BLOCK = 4096
_AT_ONCE = 1024
"""Blocks that are counted together."""
_KEPT = 4
"""Shuffled windows that are kept of each dataset."""


class Weight(NamedTuple):
    """A weight over the run: straight lines between points.

    Attributes:
        positions: of the points, ascending.
        values: there, >= 0 in any unit; they stay what they are before the first and behind the last point.
    """

    positions: tuple[float, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class BlendPlan(BatchPlan):
    """What decides what is in a rank's batches of several datasets.

    Attributes:
        places: folder or URL of each dataset, by name.
        weights: of the datasets, by name.
    """

    places: Mapping[str, str] = field(default_factory=dict)
    weights: Mapping[str, Weight] = field(default_factory=dict)

    def open(self, faults: FaultLog) -> ShardDataset:
        """Open all datasets as one."""
        return BlendedDataset(self.place, {name: self._part(name).open(faults) for name in self.places})

    def order(self, dataset: ShardDataset) -> Order:
        """Return the order of the samples."""
        assert isinstance(dataset, BlendedDataset)
        rows = trained_rows(self, dataset.manifest.counts.tolist())
        orders = []
        for name, shards in dataset.shards_of.items():
            counts = dataset.manifest.counts[shards.start : shards.stop].tolist()
            seed, turns = stream_seed(self.seed, name), EachOnce(rows[shards.start : shards.stop])
            orders.append(SampleOrder(counts, seed, self.window, turns, kept=_KEPT))
        firsts = [shards.start for shards in dataset.shards_of.values()]
        return BlendOrder(orders, firsts, Mixture(list(self.weights.values()), stream_seed(self.seed, "blend of all")))

    def _part(self, name: str) -> BatchPlan:
        return BatchPlan(
            place=self.places[name],
            seed=self.seed,
            global_batch=self.global_batch,
            window=self.window,
            cache=self.cache,
            fields=self.fields,
        )


class Mixture:
    """Which dataset each position is of.

    Args:
        weights: of the datasets.
        seed: of the permutations.
    """

    def __init__(self, weights: Sequence[Weight], seed: int) -> None:
        self._weights, self._seed = weights, seed
        self._before = np.zeros((1, len(weights)), np.int64)  # samples before each block, of each dataset
        self._lock = threading.Lock()
        self._labels = lru_cache(maxsize=4)(self._arranged)

    def counts(self, block: int) -> tuple[Integers, Integers]:
        """Return how many samples of each dataset come before a block, and in it."""
        with self._lock:
            while len(self._before) < block + 2:
                counts = self._chunk(len(self._before) // _AT_ONCE)
                self._before = np.concatenate([self._before, self._before[-1] + np.cumsum(counts, axis=0)])
            before = self._before
        return before[block], before[block + 1] - before[block]

    def span(self, start: int, stop: int) -> Iterator[tuple[int, Integers, Integers]]:
        """Iterate over the datasets of some positions.

        Yields:
            The number of a dataset, which of the positions are its (from 0 on), and its own positions there.
        """
        done = 0
        while start < stop:
            block, offset = divmod(start, _BLOCK)
            labels, end = self._labels(block), min(_BLOCK, offset + stop - start)
            before = self.counts(block)[0]
            for number in np.unique(labels[offset:end]).tolist():
                places = np.flatnonzero(labels[offset:end] == number)
                first = int(before[number]) + int(np.count_nonzero(labels[:offset] == number))
                yield number, done + places, first + np.arange(len(places))
            done, start = done + end - offset, start + end - offset

    def _arranged(self, block: int) -> Integers:
        counts = self.counts(block)[1]
        return np.repeat(np.arange(len(counts)), counts)[permutation(_BLOCK, self._seed, block, 1)]

    def _chunk(self, chunk: int) -> Integers:
        """Return how many samples of each dataset are in each of some blocks."""
        middles = (np.arange(_AT_ONCE) + chunk * _AT_ONCE + 0.5) * _BLOCK
        weights = np.stack([np.interp(middles, weight.positions, weight.values) for weight in self._weights], 1)
        shares = np.cumsum(weights, axis=1)
        shares /= shares[:, -1:]
        bits = np.random.Philox(key=np.array([self._seed, chunk], np.uint64), counter=[0, 0, 3, 0])
        start = (bits.random_raw(_AT_ONCE) >> np.uint64(11)).astype(np.float64)[:, None] * 2.0**-53
        edges = np.floor(_BLOCK * np.concatenate([np.zeros((_AT_ONCE, 1)), shares], 1) + start).astype(np.int64)
        edges[:, -1] = _BLOCK
        counts: Integers = np.diff(edges, axis=1)
        return counts


class BlendOrder:
    """The order of the samples of several datasets, whose shards follow one another; see `order.SampleOrder`.

    Args:
        orders: of each dataset alone.
        firsts: number of each dataset's first shard.
        mixture: whose turn it is.
    """

    def __init__(self, orders: Sequence[SampleOrder], firsts: Sequence[int], mixture: Mixture) -> None:
        self._orders, self._firsts, self._mixture = orders, firsts, mixture
        self.size = sum(order.size for order in orders)

    def locate_span(self, start: int, stop: int) -> list[Location]:
        """Return the samples at the positions from `start` to before `stop`."""
        found = [Location(0, 0)] * (stop - start)
        for number, places, own in self._mixture.span(start, stop):
            samples = self._orders[number].locate_span(int(own[0]), int(own[-1]) + 1)
            for place, (shard, row) in zip(places.tolist(), samples, strict=True):
                found[place] = Location(self._firsts[number] + shard, row)
        return found

    def substitute(self, position: int, attempt: int) -> Location:
        """Return the sample of the same dataset that takes the place of a damaged one."""
        ((number, _, own),) = self._mixture.span(position, position + 1)
        shard, row = self._orders[number].substitute(int(own[0]), attempt)
        return Location(self._firsts[number] + shard, row)

    def upcoming_shards(self, position: int) -> tuple[list[int], list[int]]:
        """Return the shards of the windows of all datasets that come at a position, and those of the windows after."""
        before, counts = self._mixture.counts(position // _BLOCK)
        here, following = list[int](), list[int]()
        for number, order in enumerate(self._orders):
            if counts[number]:
                now, then = order.upcoming_shards(int(before[number]))
                here += [self._firsts[number] + shard for shard in now]
                following += [self._firsts[number] + shard for shard in then]
        return here, following

    def lanes_of(self, parts: Iterable[range]) -> list[int]:
        """Return a position in each lane that some parts of a batch meet: there is one lane."""
        return [min(part.start for part in parts)]


class BlendedDataset(ShardDataset):
    """Several datasets as one, whose shards follow one another.

    Args:
        name: of it.
        datasets: by name.

    Raises:
        DataError: their fields or classes differ.
    """

    def __init__(self, name: str, datasets: Mapping[str, ShardDataset]) -> None:
        self.folder, self._datasets = Path(name), list(datasets.values())
        manifests = {one: dataset.manifest for one, dataset in datasets.items()}
        self.manifest = _merged(manifests)
        self.decoders = self._datasets[0].decoders
        ends = list(accumulate(len(manifest.shards) for manifest in manifests.values()))
        self._firsts = [0, *ends[:-1]]
        self.shards_of = {
            one: range(*ends_of) for one, ends_of in zip(datasets, zip(self._firsts, ends, strict=True), strict=True)
        }

    @property
    def is_local(self) -> bool:
        """Whether no shard must be fetched."""
        return all(dataset.is_local for dataset in self._datasets)

    def check_files(self) -> list[Fault]:
        """See ShardDataset."""
        return [fault for dataset in self._datasets for fault in dataset.check_files()]

    def label(self, location: Location) -> int:
        """See ShardDataset."""
        dataset, own = self._own(location)
        return dataset.label(own)

    def labels_of(self, number: int) -> NDArray[np.int32]:
        """See ShardDataset."""
        dataset, own = self._own(Location(number, 0))
        return dataset.labels_of(own.shard)

    def read_raw(self, location: Location, name: str = "image") -> memoryview:
        """See ShardDataset."""
        dataset, own = self._own(location)
        return dataset.read_raw(own, name)

    def read_batch(self, locations: Sequence[Location], out: Fields) -> dict[int, DamageError]:
        """See ShardDataset: each dataset's samples are read together, and put where they belong."""
        numbers = [bisect_right(self._firsts, shard) - 1 for shard, _ in locations]
        damaged: dict[int, DamageError] = {}
        for number in sorted(set(numbers)):
            places = [place for place, one in enumerate(numbers) if one == number]
            dataset = self._datasets[number]
            own = new_batch(dataset.decoders_of(out), len(places))
            found = dataset.read_batch([self._own(locations[place])[1] for place in places], own)
            damaged |= {places[place]: error for place, error in found.items()}
            for name, array in out.items():
                array[places] = own[name]
        return damaged

    def read_into(self, location: Location, out: Fields) -> None:
        """See ShardDataset."""
        dataset, own = self._own(location)
        dataset.read_into(own, out)

    def open_tar(self, number: int) -> BufferedReader:
        """See ShardDataset."""
        dataset, own = self._own(Location(number, 0))
        return dataset.open_tar(own.shard)

    def _own(self, location: Location) -> tuple[ShardDataset, Location]:
        number = bisect_right(self._firsts, location.shard) - 1
        return self._datasets[number], Location(location.shard - self._firsts[number], location.row)


def _merged(manifests: Mapping[str, Manifest]) -> Manifest:
    """Return one manifest of several.

    Raises:
        DataError: their fields differ.
    """
    (first_name, first), *others = manifests.items()
    shared = [name for name in first.fields if all(name in manifest.fields for _, manifest in others)]
    for name in shared:
        spec = replace(first.fields[name], codec="")
        for other, manifest in others:
            if replace(manifest.fields[name], codec="") != spec:
                what = "classes of other names" if name == CLASS else "another shape, type or rate"
                raise DataError(
                    f"blend: field '{name}' has {what} in {other} than in {first_name}; prepare both datasets in the "
                    f"same way"
                )
    if not set(shared) - {CLASS}:
        raise DataError(f"blend: {', '.join(manifests)} have no field in common")
    every = list(manifests.values())
    return Manifest(
        name="+".join(manifest.name for manifest in every),
        fields={name: first.fields[name] for name in shared},
        protocol="; ".join(dict.fromkeys(manifest.protocol for manifest in every)),
        licence="; ".join(dict.fromkeys(manifest.licence for manifest in every)),
        source="; ".join(dict.fromkeys(manifest.source for manifest in every)),
        members=(),
        rejected=sum(manifest.rejected for manifest in every),
        shards=tuple(shard for manifest in every for shard in manifest.shards),
        format=FORMAT,
    )
