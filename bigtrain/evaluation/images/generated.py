"""Images that a generator makes."""

from collections.abc import Callable

import torch
from torch import Tensor

from bigtrain.core.quantise import to_uint8
from bigtrain.core.rng import Draws

Generate = Callable[[Draws], tuple[Tensor, Tensor]]
"""Maps draws of n samples to n images around [-1, 1], shape [n, C, H, W], and their classes, int64, shape [n]."""


class GeneratedImages:
    """Image i is a function of (seed, i), on any number of ranks; see Images.

    Args:
        generate: makes them.
        count: how many.
        seed: of latents and labels.
        device: where the generator is.
        name: for messages.
    """

    digest: str | None = None

    def __init__(
        self, generate: Generate, count: int, *, seed: int, device: torch.device, name: str = "the generator"
    ) -> None:
        self._generate, self._count, self._seed, self._device = generate, count, seed, device
        self.name = name
        self.faults: list[str] = []

    def __len__(self) -> int:
        """See Images."""
        return self._count

    def read(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """See Images."""
        image, label = self._generate(Draws(self._seed, index.to(self._device), "eval"))
        for slot in (~image.isfinite().flatten(1).all(1)).nonzero().flatten().tolist():
            self.faults.append(f"image {int(index[slot])} (NaN or infinity in it)")
        return to_uint8(image), label
