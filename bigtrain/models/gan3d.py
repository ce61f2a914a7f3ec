"""3D-GAN: three-dimensional strided convolutions from latents to volumes (Wu et al. 2016).

A volume is [C, D, H, W] with values in [-1, 1]: -1 is empty, 1 is filled, where the paper has 0 and 1. A class is one
number more in G's latent for each that there is; D has a projection (Miyato & Koyama 2018). The paper has no classes,
and normalises over the batch; here layers are normalised a sample at a time, so that gradient penalties can be had
(Smith & Meger 2017), and D is not normalised unless that is asked for.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import PositiveInt
from torch import Tensor, nn

from bigtrain.core.rng import Draws
from bigtrain.models.base import (
    ArraySpec,
    BaseDiscriminatorConfig,
    BaseGeneratorConfig,
    DataSpec,
    Generator,
)
from bigtrain.models.layers.conditioning import class_weights
from bigtrain.models.layers.layer_norm import ChannelLayerNorm
from bigtrain.models.layers.projection_discriminator import ProjectionDiscriminator
from bigtrain.models.layers.spectral import SpectralLinear, WeightStyle
from bigtrain.ops.layout import channels_last

_BOTTOM = 4
"""Side of the smallest volume inside the networks, at least; below twice that."""

_STYLE = WeightStyle("normal", spectral=False)

Norm = Literal["layer", "none"]


class GAN3DGeneratorConfig(BaseGeneratorConfig):
    """The generator's size.

    Attributes:
        z_dim: length of the latent, which is uniform in [0, 1] in the paper and normal here.
        width: channels before the last layer (64 in the paper); they double towards the smallest volume, up to eight
            times that.
        norm: normalisation after each layer but the last.
    """

    kind: Literal["gan3d"] = "gan3d"
    works_on: ClassVar[type[DataSpec]] = ArraySpec
    z_dim: PositiveInt = 200
    width: PositiveInt = 64
    norm: Norm = "layer"

    def build(self, image: ArraySpec) -> "GAN3DGenerator":
        """Build the generator of volumes [C, D, H, W]."""
        return GAN3DGenerator(self, image)


class GAN3DDiscriminatorConfig(BaseDiscriminatorConfig):
    """The discriminator's size.

    Attributes:
        width: channels after the first layer; they double, up to eight times that.
        norm: normalisation after each layer but the first.
    """

    kind: Literal["gan3d"] = "gan3d"
    works_on: ClassVar[type[DataSpec]] = ArraySpec
    width: PositiveInt = 64
    norm: Norm = "none"

    def build(self, image: ArraySpec) -> "GAN3DDiscriminator":
        """Build the discriminator of volumes [C, D, H, W]."""
        return GAN3DDiscriminator(self, image)


class GAN3DGenerator(Generator):
    """z, class -> a small volume of many channels -> transposed convolutions of stride 2 -> volume in [-1, 1]."""

    def __init__(self, config: GAN3DGeneratorConfig, volume: ArraySpec) -> None:
        super().__init__()
        self.image, self.z_dim = volume, config.z_dim
        self.bottom, widths = _pyramid(volume, config.width)
        widths = widths[::-1]
        self.linear = SpectralLinear(config.z_dim + volume.classes, widths[0] * math.prod(self.bottom), style=_STYLE)
        self.norm = _normalisation(config.norm, widths[0])
        self.blocks = nn.ModuleList(
            nn.Sequential(Doubling(one, other), _normalisation(config.norm, other), nn.ReLU())
            for one, other in pairwise(widths)
        )
        self.to_volume = Doubling(widths[-1], volume.shape[0])

    def forward(self, z: Tensor, label: Tensor, *, draws: Draws | None = None, truncation: float = 1.0) -> Tensor:
        """Generate volumes; see `Generator.forward`. Truncation scales z."""
        z = z * truncation
        if self.image.classes:
            z = torch.cat([z, class_weights(label, self.image.classes).to(z.dtype)], dim=1)
        x = F.relu(self.norm(channels_last(self.linear(z).unflatten(1, (-1, *self.bottom)))))
        for block in self.blocks:
            x = block(x)
        return torch.tanh(self.to_volume(x).float())

    def stages(self) -> Sequence[nn.Module]:
        """See Generator."""
        return list(self.blocks)


class GAN3DDiscriminator(ProjectionDiscriminator):
    """Volume -> convolutions of stride 2 with leaky ReLU -> logit."""

    def __init__(self, config: GAN3DDiscriminatorConfig, volume: ArraySpec) -> None:
        bottom, widths = _pyramid(volume, config.width)
        blocks = [
            nn.Sequential(Halving(one, other), _normalisation(config.norm if depth else "none", other))
            for depth, (one, other) in enumerate(pairwise([volume.shape[0], *widths]))
        ]
        super().__init__(volume, blocks, widths[-1] * math.prod(bottom), _STYLE)


class Doubling(nn.ConvTranspose3d):
    """Transposed 4x4x4 convolution that doubles the sides."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__(channels, out_channels, 4, 2, 1)

    def reset_parameters(self) -> None:
        """Fill weight and bias anew."""
        _reset(self.weight, self.bias)


class Halving(nn.Conv3d):
    """4x4x4 convolution that halves the sides."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__(channels, out_channels, 4, 2, 1)

    def reset_parameters(self) -> None:
        """Fill weight and bias anew."""
        _reset(self.weight, self.bias)


def _reset(weight: Tensor, bias: Tensor | None) -> None:
    _STYLE.initialise(weight)
    if bias is not None:
        nn.init.zeros_(bias)


def _normalisation(kind: Norm, channels: int) -> nn.Module:
    return ChannelLayerNorm(channels) if kind == "layer" else nn.Identity()


def _pyramid(volume: ArraySpec, width: int) -> tuple[tuple[int, ...], list[int]]:
    """Return the sides of the smallest volume, and the channels of each level from the whole one down."""
    if len(volume.shape) != 4:
        raise ValueError(f"gan3d works on volumes [C, D, H, W], but the field has the shape {list(volume.shape)}")
    sides = volume.shape[1:]
    levels = int(math.log2(max(min(sides) // _BOTTOM, 1)))
    if not levels or any(side % 2**levels for side in sides):
        words = "x".join(map(str, sides))
        raise ValueError(
            f"gan3d halves its volumes down to 4 to 7, but {words} cannot be halved so often: use 32x32x32"
        )
    return tuple(side >> levels for side in sides), [width * min(2**level, 8) for level in range(levels)]
