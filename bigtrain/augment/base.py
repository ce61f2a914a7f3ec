"""What every augmentation offers."""

from torch import Tensor

from bigtrain.core.rng import Draws


class Augment:
    """What the discriminator sees in place of images; this one changes nothing."""

    def __call__(self, images: Tensor, draws: Draws, p: Tensor | float) -> Tensor:
        """Transform images before D sees them, real and generated ones alike; differentiable twice.

        Args:
            images: around [-1, 1], shape [N, C, H, W].
            draws: random numbers for these samples, from a stream of this use alone (real, fake in D, fake in G).
            p: probability of each transform, in [0, 1]; a tensor of shape [] stays on its device.

        Returns:
            Same shape and dtype.
        """
        return images

    def present(self, real: Tensor, fake: Tensor, draws: Draws, p: Tensor | float) -> Tensor:
        """Return the images that D is trained to call real: `real`, unless the augmentation puts some of `fake` in."""
        return real
