"""Images of a dataset of shards."""

import torch
from torch import Tensor

from data_pipelines.order import SampleOrder
from data_pipelines.read import ShardDataset


class ShardImages:
    """A random subset of a dataset, the same whatever trains on it; see Images.

    Args:
        dataset: where they are.
        count: how many; None for all. A smaller subset is part of a larger one.
    """

    def __init__(self, dataset: ShardDataset, count: int | None = None) -> None:
        manifest = dataset.manifest
        self._dataset, self._count = dataset, min(count or manifest.count, manifest.count)
        self._order = SampleOrder([shard.count for shard in manifest.shards], seed=0)
        self.name = str(dataset.folder)
        self.digest: str | None = manifest.digest

    def __len__(self) -> int:
        """See Images."""
        return self._count

    def read(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """See Images."""
        images, labels = self._dataset.read([self._order.locate(position) for position in index.tolist()])
        return torch.from_numpy(images), torch.from_numpy(labels)
