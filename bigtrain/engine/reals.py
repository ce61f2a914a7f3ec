"""Real images to look at: some that are trained on, and some that are not."""

from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from bigtrain.core.crop import Size, center_crop
from data_pipelines.batches import BatchPlan, trained_rows
from data_pipelines.order import EachOnce, Location, SampleOrder, permutation, trained_counts
from data_pipelines.read import DamageError, ShardDataset


@dataclass(frozen=True)
class Reals:
    """A fixed choice of real images, the same for a dataset on every rank and in every run.

    Attributes:
        images: uint8, shape [N, C, H, W].
        label: class indices, int64, shape [N]; all 0 where classes are ignored.
    """

    images: Tensor
    label: Tensor

    def __len__(self) -> int:
        """Count the images."""
        return len(self.label)


def trained_reals(dataset: ShardDataset, plan: BatchPlan, count: int, size: Size, *, labelled: bool) -> Reals:
    """Choose up to `count` of the images that are trained on, none twice: the first of one fixed order."""
    counts = [shard.count for shard in dataset.manifest.shards]
    order = SampleOrder(counts, seed=0, window=plan.window, turns=EachOnce(trained_rows(plan, counts)))
    return _read(dataset, order.locate_span(0, min(count, order.size)), size, labelled)


def held_out_reals(dataset: ShardDataset, plan: BatchPlan, count: int, size: Size, *, labelled: bool) -> Reals:
    """Choose up to `count` of the images that are held out, shard by shard in one fixed order."""
    counts = [shard.count for shard in dataset.manifest.shards]
    trained = trained_counts(counts, plan.held_out)
    found = (
        Location(shard, row)
        for shard in permutation(len(counts), seed=0, epoch=0, purpose=0).tolist()
        for row in range(trained[shard], counts[shard])
    )
    return _read(dataset, list(islice(found, count)), size, labelled)


def _read(dataset: ShardDataset, locations: list[Location], size: Size, labelled: bool) -> Reals:
    """Read the middle of images, leaving out those that are damaged."""
    images, labels = [np.empty((0, *dataset.manifest.shape), np.uint8)], [np.empty(0, np.int64)]
    for location in locations:
        try:
            sample = dataset.read([location], ("image", "class"))
        except DamageError:
            continue
        images.append(sample["image"])
        labels.append(sample["class"])
    classes = torch.from_numpy(np.concatenate(labels))
    middle = center_crop(torch.from_numpy(np.concatenate(images)), size)
    return Reals(middle, classes if labelled else torch.zeros_like(classes))
