"""The network families, one file each; a new one is a new file and one name in each union below."""

from typing import Annotated

from pydantic import Field

from bigtrain.models.base import Discriminator, Generator, ImageSpec, StyleGenerator
from bigtrain.models.biggan import BigGANDiscriminatorConfig, BigGANGeneratorConfig
from bigtrain.models.stylegan2 import StyleGAN2DiscriminatorConfig, StyleGAN2GeneratorConfig
from bigtrain.models.stylegan3 import StyleGAN3GeneratorConfig

GeneratorConfig = Annotated[
    BigGANGeneratorConfig | StyleGAN2GeneratorConfig | StyleGAN3GeneratorConfig, Field(discriminator="kind")
]
DiscriminatorConfig = Annotated[BigGANDiscriminatorConfig | StyleGAN2DiscriminatorConfig, Field(discriminator="kind")]

__all__ = ["Discriminator", "DiscriminatorConfig", "Generator", "GeneratorConfig", "ImageSpec", "StyleGenerator"]
