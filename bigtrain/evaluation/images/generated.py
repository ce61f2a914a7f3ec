"""Images that a generator makes."""

from collections.abc import Callable

import torch
from torch import Tensor

from bigtrain.core.quantise import to_uint8
from bigtrain.core.rng import Draws
from bigtrain.core.to_host import ToHost
from bigtrain.engine.sampler import NO_PRIOR

GenerateImages = Callable[[Draws], tuple[Tensor, Tensor]]
"""Maps draws of n samples to n images around [-1, 1], shape [n, C, H, W], and their classes, shape [n]; -1 for none.

Samples of other kinds are as their kind normalises them."""


class GeneratedImages:
    """Image i is a function of (seed, i), on any number of ranks; see Images.

    Args:
        generate: makes them.
        count: how many.
        seed: of latents and labels.
        device: where the generator is.
        name: for messages.
        classes: names of the classes, in the order of their indices; empty where they are not known.
        prior: how their inputs are drawn, see `Sampler.prior`.
        stored: turns what is made into what is scored; pixels of images become uint8.
    """

    digest: str | None = None

    def __init__(
        self,
        generate: GenerateImages,
        count: int,
        *,
        seed: int,
        device: torch.device,
        name: str = "the generator",
        classes: tuple[str, ...] = (),
        prior: str = NO_PRIOR,
        stored: Callable[[Tensor], Tensor] = to_uint8,
    ) -> None:
        self._stored = stored
        self.prior = prior
        self._generate, self._count, self._seed, self._device = generate, count, seed, device
        self.name, self.classes = name, classes
        self._faults: list[str] = []
        self._coming: tuple[Tensor, ToHost] | None = None

    def __len__(self) -> int:
        """See Images."""
        return self._count

    def read(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """See Images."""
        image, label = self._generate(Draws(self._seed, index.to(self._device), "eval"))
        coming = (index, ToHost(image.isfinite().flatten(1).all(1)))
        self._settle()
        self._coming = coming
        return self._stored(image), label

    @property
    def faults(self) -> list[str]:
        """See Images; waits for the images that were read last."""
        self._settle()
        return self._faults

    def _settle(self) -> None:
        if self._coming is not None:
            (index, finite), self._coming = self._coming, None
            for number, fine in zip(index.tolist(), finite.wait().tolist(), strict=True):
                if not fine:
                    self._faults.append(f"image {number} (NaN or infinity in it)")
