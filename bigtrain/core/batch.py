"""A batch as the players see it: named fields of some samples, and the random numbers that belong to them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from bigtrain.core.rng import Draws


@dataclass(frozen=True)
class Batch:
    """Some samples of a step, on the device.

    Attributes:
        fields: tensors by the name of their field, each of shape [N, …] and normalised: images are float32 in [-1, 1]
            and channels_last, classes are int64 indices, -1 for unlabelled samples.
        draws: the random numbers that belong to these samples.
    """

    fields: Mapping[str, Tensor]
    draws: Draws

    def __getitem__(self, name: str) -> Tensor:
        """Return a field."""
        return self.fields[name]

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.draws)

    def label(self, name: str = "class") -> Tensor:
        """Return what conditions a network: classes, int64, shape [N], or vectors [N, K]; all 0 if there is none."""
        found = self.fields.get(name)
        return torch.zeros_like(self.draws.index) if found is None else found

    def micro_batches(self, size: int, group: int = 1) -> Iterator[tuple["Batch", bool]]:
        """Divide all fields into parts of `size` samples; the flag marks the last part.

        Args:
            size: number of samples of a part.
            group: number of samples that a network compares with each other; a part of n samples contains sample i in
                group `i % (n / group)`. The samples of a group are neighbours in the whole batch, so that the groups do
                not depend on the division, as long as `size` is a multiple of `group`.
        """
        order = None
        if 1 < group < size and size % group == 0:
            order = torch.arange(size, device=self.draws.index.device).reshape(-1, group).t().flatten()
        for start in range(0, len(self), size):
            rows = slice(start, start + size) if order is None else order + start
            fields = {name: dense(field[rows]) for name, field in self.fields.items()}
            yield Batch(fields, self.draws[rows]), start + size >= len(self)


def dense(tensor: Tensor) -> Tensor:
    """Return a tensor in the memory format that convolutions like best: channels_last for images and for volumes."""
    if not tensor.is_floating_point() or tensor.ndim not in (4, 5):
        return tensor.contiguous()
    # Strides of one channel fit both layouts: `to` writes those that a convolution takes for channels_last.
    return tensor.to(memory_format=torch.channels_last if tensor.ndim == 4 else torch.channels_last_3d)
