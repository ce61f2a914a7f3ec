"""Critics for Wasserstein GANs (Arjovsky et al. 2017; Gulrajani et al. 2017): no batch normalisation.

A gradient penalty asks for the gradient by one sample, which has no meaning where a batch's statistics mix the samples
(Gulrajani et al. 2017, section 4). The body is DCGAN's; the residual critic of that paper is `kind: sngan` with
`spectral: false`.
"""

from typing import Literal

from pydantic import PositiveInt

from bigtrain.models.base import BaseDiscriminatorConfig, Discriminator, ImageSpec
from bigtrain.models.dcgan import ConvolutionalDiscriminator


class WGANDiscriminatorConfig(BaseDiscriminatorConfig):
    """The critic's size and shape.

    Attributes:
        width: channels after the first layer; they double, up to eight times this number.
        norm: normalisation after each layer but the first.
        label_dim: number of channels of the class embedding.
    """

    kind: Literal["wgan"] = "wgan"
    width: PositiveInt = 64
    norm: Literal["layer", "none"] = "layer"
    label_dim: PositiveInt = 8

    def build(self, image: ImageSpec) -> Discriminator:
        """Build the critic for `image`."""
        return ConvolutionalDiscriminator(image, self.width, self.norm, self.label_dim)
