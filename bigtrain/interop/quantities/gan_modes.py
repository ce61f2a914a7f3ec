"""The adversarial losses of pix2pix and CycleGAN by the reference implementation's names, made of our games.

The reference takes half of D's loss, and the least squares without their factor 1/2.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from torch import Tensor

from bigtrain.objectives.adversarial import (
    least_squares_d,
    least_squares_g,
    non_saturating_d,
    non_saturating_g,
    wasserstein_d,
    wasserstein_g,
)


class GANMode(NamedTuple):
    """A game, and by how much the reference multiplies its two losses."""

    discriminator: Callable[..., Tensor]
    generator: Callable[..., Tensor]
    discriminator_factor: float
    generator_factor: float

    def both(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return D's loss: half the sum of that of reals and that of fakes."""
        return self.discriminator_factor * self.discriminator(real, fake).mean()

    def as_real(self, logits: Tensor) -> Tensor:
        """Return the loss that is low where logits call images real."""
        return self.generator_factor * self.generator(logits).mean()

    def as_fake(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the loss that is low where `fake` calls images fake: what `both` has besides that of `real`."""
        return 2.0 * self.both(real, fake) - self.as_real(real)


GAN_MODES: Mapping[str, GANMode] = {
    "vanilla": GANMode(non_saturating_d, non_saturating_g, 0.5, 1.0),
    "lsgan": GANMode(least_squares_d, least_squares_g, 1.0, 2.0),
    "wgangp": GANMode(wasserstein_d, wasserstein_g, 0.5, 1.0),
}
