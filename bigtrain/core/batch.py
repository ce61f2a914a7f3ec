"""A batch as the players see it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from bigtrain.core.crop import Size, center_crop, random_crop
from bigtrain.core.rng import Draws


@dataclass(frozen=True)
class Batch:
    """Some samples of a step, on the device.

    Attributes:
        real: images in [-1, 1], float32, shape [N, C, H, W], channels_last.
        label: class indices, int64, shape [N]; -1 for no label.
        draws: the random numbers that belong to these samples.
    """

    real: Tensor
    label: Tensor
    draws: Draws

    @classmethod
    def from_host(
        cls,
        images: Tensor,
        label: Tensor,
        position: Tensor,
        *,
        seed: int,
        device: torch.device,
        size: Size | None = None,
        crop: Literal["center", "random"] = "center",
        flip: bool = False,
        label_dropout: float = 0.0,
    ) -> "Batch":
        """Move a batch to the device as uint8 and normalise it there.

        Args:
            images: uint8, shape [N, C, H, W].
            label: int64, shape [N].
            position: each sample's place in the run, int64, shape [N].
            seed: of the run's draws.
            device: where to.
            size: height and width to cut the images to; None to leave them as they are.
            crop: where to cut: in the middle, or anywhere, drawn for each sample.
            flip: whether to mirror half of the images, left to right.
            label_dropout: probability that a sample loses its label, which becomes -1.
        """
        draws = Draws(seed, position.to(device, non_blocking=True))
        images = images.to(device, non_blocking=True)
        if size is not None and tuple(images.shape[2:]) != size:
            images = random_crop(images, size, draws.of("data/crop")) if crop == "random" else center_crop(images, size)
        real = images.to(torch.float32) / 127.5 - 1.0
        label = label.to(device, non_blocking=True)
        if flip:
            mirrored = draws.of("data/flip").integers(2).reshape(-1, 1, 1, 1) == 1
            real = torch.where(mirrored, real.flip(3), real)
        if label_dropout:
            dropped = draws.of("data/label_dropout").uniform(1).squeeze(1) < label_dropout
            label = label.masked_fill(dropped, -1)
        return cls(real=real.contiguous(memory_format=torch.channels_last), label=label, draws=draws)

    def __len__(self) -> int:
        """Count the samples."""
        return len(self.real)

    def micro_batches(self, size: int, group: int = 1) -> Iterator[tuple["Batch", bool]]:
        """Cut into parts of `size` samples; the flag marks the last one.

        Args:
            size: samples of a part.
            group: samples that a network compares with each other, of which a part of n holds sample i in group
                `i % (n / group)`. They are neighbours in the whole batch, so that the groups stay the same however it
                is cut, as long as `size` is a multiple of `group`.
        """
        together = 1 < group < size and size % group == 0
        order = torch.arange(size, device=self.label.device).reshape(-1, group if together else 1).t().flatten()
        for start in range(0, len(self), size):
            rows = order + start if together else slice(start, start + size)
            real = self.real[rows].contiguous(memory_format=torch.channels_last)
            yield Batch(real, self.label[rows], self.draws[rows]), start + size >= len(self)
