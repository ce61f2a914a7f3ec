"""What every generator and discriminator offers, and the shape of the images they work on."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor, nn

from bigtrain.core.rng import Draws


@dataclass(frozen=True)
class ImageSpec:
    """The images of a dataset: square, `channels` x `resolution` x `resolution`, values in [-1, 1].

    Attributes:
        resolution: height and width in pixels.
        channels: 1 for grey, 3 for RGB.
        classes: number of classes; 0 for an unconditional network.
    """

    resolution: int
    channels: int
    classes: int = 0


class Generator(nn.Module, ABC):
    """A network from latents to images.

    Attributes:
        z_dim: length of the latent vector.
        image: what it generates.
    """

    z_dim: int
    image: ImageSpec

    @abstractmethod
    def forward(self, z: Tensor, label: Tensor, *, draws: Draws | None = None, truncation: float = 1.0) -> Tensor:
        """Generate images.

        Args:
            z: standard normal latents, shape [N, z_dim].
            label: class indices, int64, shape [N] (or class weights, float, shape [N, classes]); ignored by an
                unconditional generator.
            draws: random numbers for the network's own noise; None for its deterministic form.
            truncation: 1 samples the whole distribution, smaller values trade variety for fidelity.

        Returns:
            Images around [-1, 1], not clamped, shape [N, channels, resolution, resolution].
        """

    def calibrate(self, z: Tensor, label: Tensor) -> None:
        """Set the statistics that sampling needs (mean w, standing batch statistics) from many latents, in place."""


class Discriminator(nn.Module, ABC):
    """A network from images to one logit each; positive means real."""

    image: ImageSpec

    @abstractmethod
    def forward(self, image: Tensor, label: Tensor) -> Tensor:
        """Judge images of shape [N, channels, resolution, resolution] in [-1, 1]: logits, float32, shape [N]."""
