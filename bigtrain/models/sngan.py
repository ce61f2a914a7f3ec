"""SNGAN (Miyato et al. 2018), appendix B: residual networks, spectral normalisation in the discriminator alone.

The paper's networks for 32x32 are `width: 64` in G and `width: 32` in D; for 128x128 both are 64. A conditional D
is the projection discriminator (Miyato & Koyama 2018).
"""

from typing import Literal

from pydantic import PositiveInt

from bigtrain.models.biggan import ResidualDiscriminatorConfig, ResidualGeneratorConfig
from bigtrain.models.layers.spectral import Initialisation


class SNGANGeneratorConfig(ResidualGeneratorConfig):
    """The generator."""

    kind: Literal["sngan"] = "sngan"
    width: PositiveInt = 64
    init: Initialisation = "xavier"
    spectral: bool = False


class SNGANDiscriminatorConfig(ResidualDiscriminatorConfig):
    """The discriminator."""

    kind: Literal["sngan"] = "sngan"
    width: PositiveInt = 64
    init: Initialisation = "xavier"
