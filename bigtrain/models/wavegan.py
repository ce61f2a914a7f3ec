"""WaveGAN: one-dimensional strided convolutions from latents to waveforms (Donahue et al. 2019, tables 3 and 4).

A class is one number more in G's latent for each that there is; D has a projection (Miyato & Koyama 2018). The paper
has no classes. Its phase shuffle, random shifts inside D, is an augmentation here: `augment: {kind: phase_shift}`.
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
from bigtrain.models.layers.projection_discriminator import ProjectionDiscriminator
from bigtrain.models.layers.spectral import SpectralLinear, WeightStyle

_KERNEL, _STRIDE, _BOTTOM = 25, 4, 16
_STYLE = WeightStyle("xavier", spectral=False)


class WaveGANGeneratorConfig(BaseGeneratorConfig):
    """The generator's size.

    Attributes:
        z_dim: length of the latent, which is uniform in [-1, 1] in the paper and normal here.
        width: channels before the last layer; they double towards the layer of 16 samples, up to sixteen times this
            number.
    """

    kind: Literal["wavegan"] = "wavegan"
    works_on: ClassVar[type[DataSpec]] = ArraySpec
    z_dim: PositiveInt = 100
    width: PositiveInt = 64

    def build(self, image: ArraySpec) -> "WaveGANGenerator":
        """Build the generator of sounds [C, L]."""
        return WaveGANGenerator(self, image)


class WaveGANDiscriminatorConfig(BaseDiscriminatorConfig):
    """The discriminator's size.

    Attributes:
        width: channels after the first layer; they double, up to sixteen times this number.
    """

    kind: Literal["wavegan"] = "wavegan"
    works_on: ClassVar[type[DataSpec]] = ArraySpec
    width: PositiveInt = 64

    def build(self, image: ArraySpec) -> "WaveGANDiscriminator":
        """Build the discriminator of sounds [C, L]."""
        return WaveGANDiscriminator(self, image)


class WaveGANGenerator(Generator):
    """z, class -> 16 samples of many channels -> transposed convolutions of stride 4 -> sound in [-1, 1]."""

    def __init__(self, config: WaveGANGeneratorConfig, sound: ArraySpec) -> None:
        super().__init__()
        self.image, self.z_dim = sound, config.z_dim
        widths = _widths(sound, config.width)[::-1]
        self.linear = SpectralLinear(config.z_dim + sound.classes, widths[0] * _BOTTOM, style=_STYLE)
        channels = [*widths, sound.shape[0]]
        self.blocks = nn.ModuleList(Upsampling(one, other) for one, other in pairwise(channels))

    def forward(self, z: Tensor, label: Tensor, *, draws: Draws | None = None, truncation: float = 1.0) -> Tensor:
        """Generate sounds; see `Generator.forward`. Truncation scales z."""
        z = z * truncation
        if self.image.classes:
            z = torch.cat([z, class_weights(label, self.image.classes).to(z.dtype)], dim=1)
        x = self.linear(z).unflatten(1, (-1, _BOTTOM))
        for block in self.blocks:
            x = block(F.relu(x))
        return torch.tanh(x.float())

    def stages(self) -> Sequence[nn.Module]:
        """See Generator."""
        return list(self.blocks)


class WaveGANDiscriminator(ProjectionDiscriminator):
    """Sound -> convolutions of stride 4 with leaky ReLU -> logit."""

    def __init__(self, config: WaveGANDiscriminatorConfig, sound: ArraySpec) -> None:
        widths = _widths(sound, config.width)
        blocks = [Downsampling(one, other) for one, other in pairwise([sound.shape[0], *widths])]
        super().__init__(sound, blocks, widths[-1] * _BOTTOM, _STYLE)


class Upsampling(nn.ConvTranspose1d):
    """Transposed convolution of 25 samples that makes a sound four times as long."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__(channels, out_channels, _KERNEL, _STRIDE, padding=11, output_padding=1)

    def reset_parameters(self) -> None:
        """Fill weight and bias anew."""
        _STYLE.initialise(self.weight)
        assert self.bias is not None
        nn.init.zeros_(self.bias)


class Downsampling(nn.Conv1d):
    """Convolution of 25 samples that makes a sound a quarter as long."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__(channels, out_channels, _KERNEL, _STRIDE, padding=11)

    def reset_parameters(self) -> None:
        """Fill weight and bias anew."""
        _STYLE.initialise(self.weight)
        assert self.bias is not None
        nn.init.zeros_(self.bias)


def _widths(sound: ArraySpec, width: int) -> list[int]:
    """Return the channels of each level, from the sound down to 16 samples."""
    if len(sound.shape) != 2:
        raise ValueError(f"wavegan works on sounds [C, L], but the field has the shape {list(sound.shape)}")
    levels = int(math.log(max(sound.shape[1] / _BOTTOM, 1), _STRIDE) + 1e-9)
    if not levels or sound.shape[1] != _BOTTOM * _STRIDE**levels:
        near = " or ".join(str(_BOTTOM * _STRIDE ** max(levels + step, 1)) for step in (0, 1))
        raise ValueError(f"wavegan makes sounds of 16 times a power of 4 samples, not of {sound.shape[1]}: use {near}")
    return [width * min(2**level, 16) for level in range(levels)]
