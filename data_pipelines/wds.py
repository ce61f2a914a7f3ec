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
from data_pipelines.faults import FaultLog
from data_pipelines.manifest_v3 import FORMAT_3
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
    shard, manifest = dataset.shard(location.shard), dataset.manifest
    sample: dict[str, Any] = {"__url__": manifest.shards[location.shard].url}
    for name in (*manifest.stored, *manifest.members):
        start, size = (int(shard.index[column][location.row]) for column in manifest.index_columns(name)[:2])
        if not size:
            continue
        header = shard.tar.read(start - tarfile.BLOCKSIZE, tarfile.BLOCKSIZE)
        folder, _, base = tarfile.TarInfo.frombuf(bytes(header), "utf-8", "strict").name.rpartition("/")
        key, _, extension = base.partition(".")
        sample.setdefault("__key__", f"{folder}/{key}" if folder else key)
        has_checksum = name in manifest.fields or manifest.format != FORMAT_3
        sample[extension] = bytes(dataset.read_raw(location, name) if has_checksum else shard.tar.read(start, size))
    if (label := dataset.label(location)) >= 0:
        sample["cls"] = str(label).encode()
    return sample


def _this_worker() -> tuple[int, int]:
    """Return the number of this worker of a PyTorch DataLoader, and how many there are; (0, 1) elsewhere."""
    torch_data = sys.modules.get("torch.utils.data")  # who runs in such a worker has imported it
    info = torch_data.get_worker_info() if torch_data else None
    return (info.id, info.num_workers) if info else (0, 1)
