"""A source for a plain `wds.DataPipeline`: exact order and resume, whatever stages follow.

pipeline = wds.DataPipeline(
    WdsSource(BatchPlan("data/set", seed=0, global_batch=64)),
    wds.decode("pil"),
    wds.to_tuple("png", "cls"),
    wds.batched(64),
)
loader = wds.WebLoader(pipeline, batch_size=None, num_workers=2)  # batches come in the stream's order
"""

import sys
import tarfile
from collections.abc import Iterator
from functools import partial
from typing import Any

from data_pipelines.batches import BatchMaker, BatchPlan
from data_pipelines.codec import SUFFIXES
from data_pipelines.faults import FaultLog
from data_pipelines.order import Location
from data_pipelines.read import DamageError, ShardDataset


class WdsSource:
    """Iterates over samples as WebDataset has them: a dictionary of the bytes of each member.

    Worker k of K yields the samples of the batches b = k mod K, so that a loader that takes one batch of each worker
    in turn, as PyTorch's does, sees the batches of the stream in order. It needs no package but NumPy.

    Args:
        plan: of the batches; those of one rank.
        start: position of the first global batch, a multiple of it.
        batches: how many of them; None for no end.
    """

    def __init__(self, plan: BatchPlan, *, start: int = 0, batches: int | None = None) -> None:
        if start % plan.global_batch:
            raise ValueError(f"position {start} is not a multiple of the global batch {plan.global_batch}")
        self._plan, self._start, self._batches = plan, start, batches

    def __call__(self) -> Iterator[dict[str, Any]]:
        """Return an iterator, as `wds.DataPipeline` asks its first stage for one."""
        return iter(self)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Iterate over this worker's samples; in a process of PyTorch's DataLoader, those of that worker."""
        faults = FaultLog()
        dataset = self._plan.open(faults)
        maker = BatchMaker(self._plan, dataset, faults)
        worker, workers = _this_worker()
        number = worker
        while self._batches is None or number < self._batches:
            start = self._start + number * self._plan.global_batch
            for position, location in zip(maker.positions(start), maker.locations(start), strict=True):
                try:
                    sample = as_wds(dataset, location)
                except DamageError as error:
                    sample = maker.stand_in(position, error, partial(as_wds, dataset))
                yield sample
            number += workers


def as_wds(dataset: ShardDataset, location: Location) -> dict[str, Any]:
    """Return a sample in WebDataset's form: `__key__`, `__url__`, and each member's bytes by its extension."""
    data, label = dataset.read_raw(location)
    shard, row = dataset.shard(location.shard), location.row
    entry = dataset.manifest.shards[location.shard]
    start = shard.starts[row]
    name = tarfile.TarInfo.frombuf(
        bytes(shard.tar.read(start - tarfile.BLOCKSIZE, tarfile.BLOCKSIZE)), "utf-8", "strict"
    ).name
    folder, _, base = name.rpartition("/")
    key, _, extension = base.partition(".")
    sample = {
        "__key__": f"{folder}/{key}" if folder else key,
        "__url__": entry.url,
        SUFFIXES.get(dataset.manifest.codec, extension): bytes(data),
    }
    if label >= 0:
        sample["cls"] = str(label).encode()
    for field in dataset.manifest.fields:
        first, size = int(shard.index[f"{field}.offset"][row]), int(shard.index[f"{field}.size"][row])
        if size:
            sample[field] = bytes(shard.tar.read(first, size))
    return sample


def _this_worker() -> tuple[int, int]:
    """Return the number of this worker of a PyTorch DataLoader, and how many there are; (0, 1) elsewhere."""
    torch_data = sys.modules.get("torch.utils.data")  # who runs in such a worker has imported it
    info = torch_data.get_worker_info() if torch_data else None
    return (info.id, info.num_workers) if info else (0, 1)
