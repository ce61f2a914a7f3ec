"""Make one rank's share of a global batch: which samples, read into which memory, and what stands in for damaged ones.

All of it is a function of the plan and of where the batch starts, so that any thread or process makes the same batch.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from data_pipelines.class_counts import ClassCounts, kept_counts
from data_pipelines.errors import DataError, UnreachableError
from data_pipelines.faults import FaultLog
from data_pipelines.fields.decoder import Fields
from data_pipelines.manifest import CLASS, IMAGE
from data_pipelines.order import EachOnce, Integers, LaneOrder, Location, SampleOrder, Turns, trained_counts
from data_pipelines.read import DamageError, ShardDataset
from data_pipelines.remote import RetryPolicy
from data_pipelines.sampling import ByClass, Shares, subset
from data_pipelines.shard_cache import ShardCache, default_folder

Result = TypeVar("Result")
OnCorrupt = Literal["replace", "fail"]

_INDEXES_AT_ONCE, _MANY_SHARDS = 16, 1000

_OPEN_SHARDS = 2048
"""Of a rank, at most: each takes a file descriptor."""

_SUBSTITUTES = 32
"""Damaged substitutes in a row after which a dataset is beyond repair."""


class Substitutes(Protocol):
    """An order that knows who stands in for a damaged sample."""

    def substitute(self, position: int, attempt: int) -> Location:
        """Return the sample that takes the place of a damaged one; see `order.SampleOrder`."""


class Order(Substitutes, Protocol):
    """An order of samples: a function of the position alone; see `order.SampleOrder`."""

    def locate_span(self, start: int, stop: int) -> list[Location]:
        """Return the samples at the positions from `start` to before `stop`."""

    def upcoming_shards(self, position: int) -> tuple[list[int], list[int]]:
        """Return the shards that are read at a position, and those that are read next."""

    def lanes_of(self, parts: Iterable[range]) -> list[int]:
        """Return a position in each lane that some parts of a batch meet."""


@dataclass(frozen=True)
class CachePlan:
    """Where fetched shards are kept.

    Attributes:
        folder: on this machine; empty for the user's cache.
        max_bytes: what they may take together.
        patience_s: how long a server that does not answer is asked again.
    """

    folder: str = ""
    max_bytes: int = 100 * 2**30
    patience_s: float = RetryPolicy.patience_s

    @property
    def place(self) -> Path:
        """The folder."""
        return Path(self.folder).expanduser() if self.folder else default_folder()

    def open(self, faults: FaultLog) -> ShardCache:
        """Return the cache."""
        return ShardCache(self.place, self.max_bytes, retry=RetryPolicy(patience_s=self.patience_s), faults=faults)


@dataclass(frozen=True)
class BatchPlan:
    """Everything that decides what is in a rank's batches.

    Attributes:
        place: of the dataset: a folder or a URL.
        seed: of the order.
        global_batch: samples of a step over all ranks.
        rank: whose share of each batch is made.
        world_size: number of ranks; must divide `global_batch`.
        pieces: into which a batch is cut before the ranks share each of them: micro-batches, which then hold the same
            samples over all ranks on any number of ranks; their number times that of ranks must divide `global_batch`.
        window: shards shuffled together.
        lanes: parts of an epoch that a batch is read from, see `order.LaneOrder`; must divide `global_batch`.
        shares: of the classes; None for those that the data have.
        max_images: size of the subset that is used; None for all.
        held_out: share of the samples that never come, see `order.trained_counts`.
        on_corrupt: whether another sample stands in for a damaged one, or reading ends with an error.
        cache: for a dataset that lies elsewhere.
        fields: which of a sample's fields are read; any set has `class`, -1 where samples are unlabelled.
    """

    place: str
    seed: int
    global_batch: int
    rank: int = 0
    world_size: int = 1
    pieces: int = 1
    window: int = 8
    lanes: int = 1
    shares: Shares | None = None
    max_images: int | None = None
    held_out: float = 0.0
    on_corrupt: OnCorrupt = "fail"
    cache: CachePlan = CachePlan()
    fields: tuple[str, ...] = (IMAGE, CLASS)

    def __post_init__(self) -> None:
        """Check that the batch divides."""
        if self.global_batch % self.world_size:
            raise ValueError(f"a global batch of {self.global_batch} does not divide over {self.world_size} ranks")
        if self.size % self.pieces:
            raise ValueError(f"a rank's {self.size} samples of a batch cannot be cut into {self.pieces} pieces")
        if self.global_batch % self.lanes:
            raise ValueError(f"a global batch of {self.global_batch} does not divide into {self.lanes} lanes")

    @property
    def size(self) -> int:
        """Samples of this rank's share."""
        return self.global_batch // self.world_size

    @property
    def own_lanes(self) -> int:
        """Number of lanes that this rank reads, at most."""
        part = self.size // self.pieces
        return min(self.lanes, self.pieces * (1 + -(-part * self.lanes // self.global_batch)))

    def parts(self, start: int) -> list[range]:
        """Return this rank's part of each piece of the global batch at `start`, as neighbouring positions."""
        part, piece = self.size // self.pieces, self.global_batch // self.pieces
        firsts = range(start + self.rank * part, start + self.global_batch, piece)
        return [range(first, first + part) for first in firsts]

    def open(self, faults: FaultLog) -> ShardDataset:
        """Open the dataset: the shards of this window and the next stay open, in each lane."""
        open_shards = min(2 * self.window * self.own_lanes + 2, _OPEN_SHARDS)
        return ShardDataset(self.place, cache=self.cache.open(faults), open_shards=open_shards)

    def order(self, dataset: ShardDataset) -> Order:
        """Return the order of the samples.

        Raises:
            DataError: the sampling does not fit the dataset.
        """
        counts = dataset.manifest.counts.tolist()
        turns = _turns(self, dataset, counts)
        order = SampleOrder(counts, self.seed, self.window, turns, kept=4 * self.own_lanes)
        try:
            return LaneOrder(order, self.lanes, self.global_batch)
        except ValueError as error:
            raise DataError(f"{self.place}: {error}") from None


class BatchMaker:
    """Makes batches; threads may share it.

    Args:
        plan: what is in them.
        dataset: where it is read from.
        faults: where damaged samples are counted.

    Attributes:
        decoders: of the fields that are read; `fields.decoder.new_batch` makes memory for a batch of them.

    Raises:
        DataError: the dataset lacks a field, or the sampling does not fit it.
    """

    def __init__(self, plan: BatchPlan, dataset: ShardDataset, faults: FaultLog) -> None:
        self.plan, self.dataset, self.faults = plan, dataset, faults
        self.decoders = dataset.decoders_of(plan.fields)
        self.order = plan.order(dataset)

    def positions(self, start: int) -> list[int]:
        """Return the positions of this rank's share of the global batch at `start`, piece after piece."""
        return [position for part in self.plan.parts(start) for position in part]

    def locations(self, start: int) -> list[Location]:
        """Return where the samples at `positions` are."""
        return [one for part in self.plan.parts(start) for one in self.order.locate_span(part.start, part.stop)]

    def make(self, start: int, out: Fields) -> None:
        """Read this rank's share of the global batch at position `start` into memory that is there.

        Raises:
            DataError: a sample is damaged, and the plan is to fail or nothing can stand in for it; or it cannot be
            reached, whatever the plan.
        """
        damaged = self.dataset.read_batch(self.locations(start), out)
        for slot in sorted(damaged):
            sample = {name: array[slot, ...] for name, array in out.items()}
            read = partial(self.dataset.read_into, out=sample)
            self.stand_in(self.positions(start)[slot], damaged[slot], read)

    def stand_in(self, position: int, error: DamageError, read: Callable[[Location], Result]) -> Result:
        """Read another sample than the damaged one at `position`: the same one in any process, at any time.

        Raises:
            DataError: the plan is to fail, or no substitute can be read either.
        """
        if self.plan.on_corrupt == "fail":
            raise error
        return read_substitute(self.order, position, error, read, self.faults)


def read_substitute(
    order: Substitutes,
    position: int,
    error: DamageError,
    read: Callable[[Location], Result],
    faults: FaultLog,
) -> Result:
    """Read another sample than the damaged one at `position`, and count it.

    Raises:
        DataError: no substitute can be read either.
    """
    faults.quarantine(error.fault)
    for attempt in range(_SUBSTITUTES):
        try:
            result = read(order.substitute(position, attempt))
        except DamageError as another:
            faults.quarantine(another.fault)
            continue
        faults.replace()
        return result
    raise DataError(f"{_SUBSTITUTES} substitutes in a row are damaged, after: {error}")


def trained_rows(plan: BatchPlan, counts: Sequence[int]) -> Sequence[Integers | range]:
    """Return which samples of each shard a plan trains on."""
    counts = trained_counts(counts, plan.held_out)
    return [range(count) for count in counts] if plan.max_images is None else subset(counts, plan.max_images)


def _turns(plan: BatchPlan, dataset: ShardDataset, counts: Sequence[int]) -> Turns:
    """Return how often each sample of a plan comes."""
    manifest, rows = dataset.manifest, trained_rows(plan, counts)
    if plan.shares is None:
        return EachOnce(rows)
    labels_of = partial(_labels_of, dataset)
    weights = plan.shares.of(manifest.classes)
    return ByClass(rows, labels_of, _class_counts(plan, dataset, rows), weights, plan.seed)


def _class_counts(plan: BatchPlan, dataset: ShardDataset, rows: Sequence[Integers | range]) -> ClassCounts:
    """Count the classes of the samples that take part; of many shards, once a node."""
    manifest, classes = dataset.manifest, len(dataset.manifest.classes)
    if [len(part) for part in rows] == manifest.counts.tolist():
        return manifest.class_counts

    def count() -> ClassCounts:
        with ThreadPoolExecutor(_INDEXES_AT_ONCE) as threads:
            labels = threads.map(lambda number: _labels_of(dataset, number)[rows[number]], range(len(rows)))
            return ClassCounts.of_labels(labels, classes)

    if len(rows) < _MANY_SHARDS:
        return count()
    key = hashlib.sha256(repr((manifest.digest, plan.held_out, plan.max_images)).encode()).hexdigest()
    return kept_counts(plan.cache.place / "class-counts", key, classes, count)


def _labels_of(dataset: ShardDataset, number: int) -> NDArray[np.int32]:
    """Return the class indices of a shard's samples; where its index is damaged, any that fit the manifest.

    So the order stays what it is, and meets the damage when it comes to these samples.
    """
    try:
        return dataset.labels_of(number)
    except UnreachableError:
        raise
    except DataError:
        count = int(dataset.manifest.counts[number])
        labels = np.repeat(*dataset.manifest.class_counts.of(number)).astype(np.int32)
        return np.concatenate([labels, np.full(count - len(labels), -1, dtype=np.int32)])
