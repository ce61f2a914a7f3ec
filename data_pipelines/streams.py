"""Several streams of batches whose positions advance together: pairs of domains, or images and a second set.

Each stream is what one alone is: a function of its position, equal on any number of ranks, resumable from one integer.
The position is shared, so it is still the whole state.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from data_pipelines.batches import BatchPlan
from data_pipelines.blend import BlendPlan
from data_pipelines.faults import Fault
from data_pipelines.order import stream_seed
from data_pipelines.read import ShardDataset
from data_pipelines.readers import WhileWaiting, go_on_waiting
from data_pipelines.stream import BatchStream, HostBatch, Loader
from data_pipelines.tar_set import TarPlan
from data_pipelines.tar_stream import TarStream

AnyStream = BatchStream | TarStream

STREAMS: dict[type[BatchPlan], type[Any]] = {BatchPlan: BatchStream, BlendPlan: BatchStream, TarPlan: TarStream}
"""Kind of plan -> the stream that reads it."""


class Streams(Iterator[HostBatch]):
    """Iterate over this rank's batches of several datasets.

    The fields of stream `A` are called `A.image`, `A.class` and so on; those of the one stream without a name keep
    their names. Each stream with a name has an order of its own: its seed is made of the plan's and of the name, so
    that two streams of one dataset do not come as the same pairs again and again.

    Args:
        plans: of the streams by name; the name may be empty if there is only one. All plans must have one global
            batch, cut alike.
        loader: see BatchStream; each stream has its own readers.
        workers: of each stream.
        read_ahead: batches of each stream that are prepared in advance; by default, one more than there are workers.
        quarantine: file that lists what was damaged.
        while_waiting: called again and again while a batch is waited for; it may raise.

    Attributes:
        streams: by name.

    Raises:
        DataError: a dataset is missing, or lacks a field that is asked for.
        ValueError: the plans cut batches in different ways, or one of several streams has no name.
    """

    def __init__(
        self,
        plans: Mapping[str, BatchPlan],
        *,
        loader: Loader = "threads",
        workers: int = 1,
        read_ahead: int | None = None,
        quarantine: Path | None = None,
        while_waiting: WhileWaiting = go_on_waiting,
    ) -> None:
        _check(plans)
        self.streams: dict[str, AnyStream] = {
            name: STREAMS[type(plan)](
                replace(plan, seed=stream_seed(plan.seed, name)),
                loader=loader,
                workers=workers,
                read_ahead=read_ahead,
                quarantine=quarantine,
                while_waiting=while_waiting,
                name=name,
            )
            for name, plan in plans.items()
        }
        self.faults = StreamFaults(self.streams)

    @property
    def datasets(self) -> dict[str, ShardDataset]:
        """The dataset of each stream."""
        return {name: stream.dataset for name, stream in self.streams.items()}

    def seek(self, position: int) -> None:
        """Go to `position`, a multiple of the global batch: the next batch of every stream begins there."""
        for stream in self.streams.values():
            stream.seek(position)

    def __next__(self) -> HostBatch:
        """Return the next batch, waiting for it if need be.

        Raises:
            DataError: it cannot be had.
        """
        batches = {name: next(stream) for name, stream in self.streams.items()}
        fields = {
            f"{name}.{field}" if name else field: array
            for name, batch in batches.items()
            for field, array in batch.fields.items()
        }
        return HostBatch(fields, next(iter(batches.values())).positions)

    def has_read(self, batches: int) -> bool:
        """Tell whether so many next batches of each stream, or as many as are read ahead, have been read."""
        return all(stream.has_read(batches) for stream in self.streams.values())

    def close(self) -> None:
        """Stop reading ahead."""
        for stream in self.streams.values():
            stream.close()


class StreamFaults:
    """What all streams together have met."""

    def __init__(self, streams: Mapping[str, AnyStream]) -> None:
        self._streams = streams

    @property
    def replaced(self) -> int:
        """Samples that others stood in for, since the start."""
        return sum(stream.faults.replaced for stream in self._streams.values())

    @property
    def retries(self) -> int:
        """Fetches that were tried again."""
        return sum(stream.faults.retries for stream in self._streams.values())

    @property
    def quarantined(self) -> list[Fault]:
        """Every fault that was met."""
        return [fault for stream in self._streams.values() for fault in stream.faults.quarantined]


def _check(plans: Mapping[str, BatchPlan]) -> None:
    if not plans or ("" in plans and len(plans) > 1):
        raise ValueError("streams need a name each where there are several, and there is at least one")
    cuts = {(plan.global_batch, plan.rank, plan.world_size, plan.pieces) for plan in plans.values()}
    if len(cuts) > 1:
        raise ValueError(f"the streams {', '.join(plans)} cut batches in different ways")
