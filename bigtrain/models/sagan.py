"""SAGAN (Zhang et al. 2019): BigGAN's ancestor, spectral normalisation and self-attention in both networks."""

from typing import Literal

from pydantic import PositiveInt

from bigtrain.models.biggan import ResidualDiscriminatorConfig, ResidualGeneratorConfig
from bigtrain.models.layers.spectral import Initialisation


class SAGANGeneratorConfig(ResidualGeneratorConfig):
    """The generator; classes reach its conditional batch normalisation through tables."""

    kind: Literal["sagan"] = "sagan"
    width: PositiveInt = 64
    attention: tuple[int, ...] = (32,)
    init: Initialisation = "xavier"


class SAGANDiscriminatorConfig(ResidualDiscriminatorConfig):
    """The discriminator, with projection (Miyato & Koyama 2018)."""

    kind: Literal["sagan"] = "sagan"
    width: PositiveInt = 64
    attention: tuple[int, ...] = (32,)
    init: Initialisation = "xavier"
