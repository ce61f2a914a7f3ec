"""BigGAN (Brock, Donahue & Simonyan 2019), appendix B, figure 15.

The parameters carry the names of the published PyTorch checkpoints, so that those load without a table of names.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor, nn

from bigtrain.core.rng import Draws
from bigtrain.models.base import BaseDiscriminatorConfig, BaseGeneratorConfig, Discriminator, Generator, ImageSpec
from bigtrain.models.layers.attention import SelfAttention
from bigtrain.models.layers.conditional_batch_norm import BatchNorm, ConditionalBatchNorm, set_standing_statistics
from bigtrain.models.layers.conditioning import ClassTable, class_weights
from bigtrain.models.layers.projection_discriminator import SpectralProjection
from bigtrain.models.layers.spectral import (
    Initialisation,
    SpectralConv2d,
    SpectralLinear,
    WeightStyle,
)
from bigtrain.ops.layout import channels_last

GENERATOR_WIDTHS = {
    32: (4, 4, 4, 4),
    64: (16, 16, 8, 4, 2),
    128: (16, 16, 8, 4, 2, 1),
    256: (16, 16, 8, 8, 4, 2, 1),
    512: (16, 16, 8, 8, 4, 2, 1, 1),
}
"""Channels at 4x4, 8x8, ... as multiples of the base width."""

DISCRIMINATOR_WIDTHS = {
    32: (4, 4, 4, 4),
    64: (1, 2, 4, 8, 16),
    128: (1, 2, 4, 8, 16, 16),
    256: (1, 2, 4, 8, 8, 16, 16),
    512: (1, 1, 2, 4, 8, 8, 16, 16),
}
"""Channels after each block as multiples of the base width."""


class ResidualGeneratorConfig(BaseGeneratorConfig):
    """Size and shape of a residual generator; the families that have one differ in their defaults.

    Attributes:
        z_dim: length of the latent; with `hierarchical`, it is divided into one part per block and one for the first
            layer.
        width: base number of channels (`ch`; 96 in the paper at 128x128).
        attention: resolutions (of the shorter side) after which there is self-attention.
        shared_dim: length of one class embedding for all layers; 0 gives each layer an embedding of its own.
        hierarchical: whether each block gets a part of z; needs a shared embedding.
        multiples: channels at 4x4, 8x8, ... as multiples of `width`; null for those of the paper.
        init: initialisation of the weights.
        spectral: whether all layers except the class embeddings have spectral normalisation.
        power_iterations: power iterations of the spectral normalisation in each forward pass.
        calibration_batch: latents per batch when the standing statistics are computed.
    """

    z_dim: PositiveInt = 128
    width: PositiveInt = 96
    attention: tuple[int, ...] = ()
    shared_dim: NonNegativeInt = 0
    hierarchical: bool = False
    multiples: tuple[int, ...] | None = None
    init: Initialisation = "orthogonal"
    spectral: bool = True
    power_iterations: PositiveInt = 1
    calibration_batch: PositiveInt = 128

    @property
    def style(self) -> WeightStyle:
        """What all layers have in common."""
        return WeightStyle(self.init, self.spectral, self.power_iterations)

    def build(self, image: ImageSpec) -> Generator:
        """Build the generator for `image`."""
        return ResidualGenerator(self, image)


class BigGANGeneratorConfig(ResidualGeneratorConfig):
    """BigGAN's generator."""

    kind: Literal["biggan"] = "biggan"


class ResidualDiscriminatorConfig(BaseDiscriminatorConfig):
    """Size and shape of a residual discriminator; the families that have one differ in their defaults.

    Attributes:
        width: base number of channels (`ch`).
        attention: resolutions (of the shorter side) after which there is self-attention.
        attention_after: numbers of the blocks, from 0, after which there is self-attention, instead of `attention`; two
            blocks can have the same resolution.
        multiples: channels after each block as multiples of `width`; null for those of the paper.
        halvings: number of blocks, from the first, that halve the resolution; null for that of the paper.
        init: initialisation of the weights.
        spectral: whether all layers have spectral normalisation.
        power_iterations: power iterations of the spectral normalisation in each forward pass.
    """

    width: PositiveInt = 96
    attention: tuple[int, ...] = ()
    attention_after: tuple[int, ...] | None = None
    multiples: tuple[int, ...] | None = None
    halvings: int | None = None
    init: Initialisation = "orthogonal"
    spectral: bool = True
    power_iterations: PositiveInt = 1

    @property
    def style(self) -> WeightStyle:
        """What all layers have in common."""
        return WeightStyle(self.init, self.spectral, self.power_iterations)

    def build(self, image: ImageSpec) -> Discriminator:
        """Build the discriminator for `image`."""
        return ResidualDiscriminator(self, image)


class BigGANDiscriminatorConfig(ResidualDiscriminatorConfig):
    """BigGAN's discriminator."""

    kind: Literal["biggan"] = "biggan"


class ResidualGenerator(Generator):
    """z, class -> features of 4 pixels -> residual blocks of doubling resolution -> image."""

    def __init__(self, config: ResidualGeneratorConfig, image: ImageSpec) -> None:
        super().__init__()
        multiples = config.multiples or paper_multiples(GENERATOR_WIDTHS, image)
        self.bottom = bottom_size(image, len(multiples))
        widths = [multiple * config.width for multiple in multiples]
        if config.hierarchical and not config.shared_dim:
            raise ValueError("biggan: a hierarchical z needs shared_dim, the class embedding that it is appended to")
        self.image = image
        self.parts = len(widths) if config.hierarchical else 1
        part = config.z_dim // self.parts
        self.z_dim = part * self.parts
        self.calibration_batch = config.calibration_batch
        style, classes = config.style, max(image.classes, 1)
        if config.shared_dim:
            self.shared = ClassTable(classes, config.shared_dim, style)
        condition = config.shared_dim + (part if config.hierarchical else 0)
        self.linear = SpectralLinear(part, widths[0] * math.prod(self.bottom), style=style)
        self.blocks = nn.ModuleList()
        for depth, (channels, out_channels) in enumerate(pairwise(widths), 1):
            stage: list[nn.Module] = [GeneratorBlock(channels, out_channels, condition, classes, style)]
            if min(self.bottom) * 2**depth in config.attention:
                stage.append(SelfAttention(out_channels, style))
            self.blocks.append(nn.ModuleList(stage))
        self.output_layer = output_layer(widths[-1], image, style)

    def forward(self, z: Tensor, label: Tensor, *, draws: Draws | None = None, truncation: float = 1.0) -> Tensor:
        """Generate images; see `Generator.forward`. Truncation scales z, a smooth form of the truncation trick."""
        first, *rest = (z * truncation).chunk(self.parts, dim=1)
        weights = class_weights(label, self.image.classes) if self.image.classes else z.new_ones(z.shape[0], 1)
        condition = self.shared(weights) if hasattr(self, "shared") else weights
        x = channels_last(self.linear(first).unflatten(1, (-1, *self.bottom)))
        for depth, stage in enumerate(self.blocks):
            block, *attention = stage.children()
            x = block(x, torch.cat([condition, rest[depth]], dim=1) if rest else condition)
            for layer in attention:
                x = layer(x)
        return torch.tanh(self.output_layer(x).float())

    def stages(self) -> Sequence[nn.Module]:
        """See Generator."""
        return [layer for stage in self.blocks for layer in stage.children()]

    def calibrate(self, z: Tensor, label: Tensor) -> None:
        """Set the standing batch statistics (section 3, "sampling")."""
        set_standing_statistics(self, z, label, batch=self.calibration_batch)


class ResidualDiscriminator(SpectralProjection):
    """Image -> residual blocks -> sum over positions -> logit, plus its projection on the class."""

    def __init__(self, config: ResidualDiscriminatorConfig, image: ImageSpec) -> None:
        super().__init__()
        self.image = image
        multiples = config.multiples or paper_multiples(DISCRIMINATOR_WIDTHS, image)
        widths = [multiple * config.width for multiple in multiples]
        halvings = config.halvings or paper_halvings(image, len(widths))
        check_halvings(image, halvings)
        after = attention_blocks(config, image, len(widths), halvings)
        self.blocks = nn.ModuleList()
        for depth, (channels, out_channels) in enumerate(zip([image.channels, *widths[:-1]], widths, strict=True)):
            stage: list[nn.Module] = [
                DiscriminatorBlock(channels, out_channels, down=depth < halvings, first=depth == 0, style=config.style)
            ]
            if depth in after:
                stage.append(SelfAttention(out_channels, config.style))
            self.blocks.append(nn.Sequential(*stage))
        self.add_head(widths[-1], config.style)

    def features(self, image: Tensor, label: Tensor) -> list[Tensor]:
        """See Discriminator."""
        x, found = image, []
        for stage in self.blocks:
            x = stage(x)
            found.append(x)
        found.append(F.relu(x).float().sum((2, 3)))
        return found


class GeneratorBlock(nn.Module):
    """Normalise, ReLU, up-sample if `up`, convolve; again without up-sampling; plus a 1x1 shortcut."""

    def __init__(
        self, channels: int, out_channels: int, condition: int, classes: int, style: WeightStyle, *, up: bool = True
    ) -> None:
        super().__init__()
        self.resize = upsample if up else _same
        self.conv1 = SpectralConv2d(channels, out_channels, 3, style=style)
        self.conv2 = SpectralConv2d(out_channels, out_channels, 3, style=style)
        self.conv_sc = SpectralConv2d(channels, out_channels, 1, style=style)
        self.bn1 = conditional_norm(channels, condition, classes, style)
        self.bn2 = conditional_norm(out_channels, condition, classes, style)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Map [N, C, H, W] to [N, C', 2 * H, 2 * W] (or H, W)."""
        y = self.conv1(self.resize(F.relu(self.bn1(x, condition))))
        y = self.conv2(F.relu(self.bn2(y, condition)))
        # A 1x1 convolution commutes with nearest-neighbour up-sampling, and is four times cheaper before it.
        out: Tensor = y + self.resize(self.conv_sc(x))
        return out


class DiscriminatorBlock(nn.Module):
    """Two convolutions after ReLU, average pooling, and a 1x1 shortcut; the first block takes the bare image."""

    def __init__(self, channels: int, out_channels: int, *, down: bool, first: bool, style: WeightStyle) -> None:
        super().__init__()
        self.down, self.first = down, first
        self.conv1 = SpectralConv2d(channels, out_channels, 3, style=style)
        self.conv2 = SpectralConv2d(out_channels, out_channels, 3, style=style)
        if channels != out_channels or down:
            self.conv_sc = SpectralConv2d(channels, out_channels, 1, style=style)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to [N, C', H / 2, W / 2] (or H, W)."""
        y = self.conv2(F.relu(self.conv1(x if self.first else F.relu(x))))
        if self.down:
            # Pooling commutes with the shortcut's 1x1 convolution, and makes it four times cheaper.
            y, x = F.avg_pool2d(y, 2), F.avg_pool2d(x, 2)
        out: Tensor = y + (self.conv_sc(x) if hasattr(self, "conv_sc") else x)
        return out


def conditional_norm(channels: int, condition: int, classes: int, style: WeightStyle) -> ConditionalBatchNorm:
    """Batch normalisation by a condition of so many numbers, or (for 0) by class weights through tables of its own."""
    if condition:
        gain, bias = (SpectralLinear(condition, channels, bias=False, style=style) for _ in range(2))
        return ConditionalBatchNorm(channels, gain, bias)
    return ConditionalBatchNorm(channels, *(ClassTable(classes, channels, style) for _ in range(2)))


def output_layer(channels: int, image: ImageSpec, style: WeightStyle) -> nn.Sequential:
    """Normalise, ReLU, convolve to the image's channels."""
    return nn.Sequential(BatchNorm(channels), nn.ReLU(), SpectralConv2d(channels, image.channels, 3, style=style))


def upsample(x: Tensor) -> Tensor:
    """Double the resolution by repeating pixels."""
    return F.interpolate(x, scale_factor=2, mode="nearest")


def _same(x: Tensor) -> Tensor:
    return x


def paper_multiples(table: dict[int, tuple[int, ...]], image: ImageSpec) -> tuple[int, ...]:
    """Look the paper's channels up by the image's shorter side."""
    side = min(image.shape[1:])
    if side not in table:
        raise ValueError(
            f"biggan has tables for the resolutions {', '.join(map(str, table))}, not {side}; set multiples for "
            f"another resolution"
        )
    return table[side]


def bottom_size(image: ImageSpec, stages: int) -> tuple[int, int]:
    """Return height and width of a generator's first features, 4 to 7 pixels at the shorter side."""
    _, height, width = image.shape
    scale = 2 ** (stages - 1)
    if height % scale or width % scale or not 4 <= min(height, width) // scale < 8:
        raise ValueError(f"generator.multiples: {stages} values do not double 4 pixels to {height}x{width} pixels")
    return height // scale, width // scale


def paper_halvings(image: ImageSpec, blocks: int) -> int:
    """At 32 pixels the paper's last blocks stay at 8x8; above, only the last one keeps its resolution."""
    return 2 if min(image.shape[1:]) == 32 else blocks - 1


def check_halvings(image: ImageSpec, halvings: int) -> None:
    """Refuse an image whose sides cannot be halved so often."""
    _, height, width = image.shape
    if height % 2**halvings or width % 2**halvings:
        raise ValueError(f"the discriminator halves its images {halvings} times, which {height}x{width} does not allow")


def attention_blocks(config: ResidualDiscriminatorConfig, image: ImageSpec, blocks: int, halvings: int) -> set[int]:
    """Return the numbers of the blocks that self-attention follows."""
    if config.attention_after is not None:
        return set(config.attention_after)
    sides = [min(image.shape[1:]) // 2 ** (depth + 1) for depth in range(min(blocks, halvings))]
    return {depth for depth, side in enumerate(sides) if side in config.attention}
