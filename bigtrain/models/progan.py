"""ProGAN, progressive growing (Karras et al. 2018), and the parts of it that StyleGAN1 has kept."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor, nn

from bigtrain.core.rng import Draws
from bigtrain.models.base import BaseDiscriminatorConfig, BaseGeneratorConfig, Discriminator, Generator, ImageSpec
from bigtrain.models.layers.conditioning import class_weights
from bigtrain.models.layers.equalized import EqualizedConv2d, EqualizedLinear
from bigtrain.models.layers.growth import Growth, GrowthConfig, at_rest, enlarge
from bigtrain.models.layers.minibatch import minibatch_stddev
from bigtrain.models.layers.pyramid import Pyramid
from bigtrain.models.layers.style_mapping import unit_second_moment
from bigtrain.ops.layout import channels_last


class ProGANGeneratorConfig(BaseGeneratorConfig):
    """The generator's size, shape and growth; the defaults are the paper's (table 2).

    Attributes:
        z_dim: length of the latent.
        channel_base: the number of channels at a resolution is `channel_base / resolution`, at most `channel_max`.
        channel_max: maximum number of channels at a resolution.
        growth: schedule of the resolutions, the same as the discriminator's; null trains at full resolution from the
            start.
    """

    kind: Literal["progan"] = "progan"
    z_dim: PositiveInt = 512
    channel_base: PositiveInt = 16384
    channel_max: PositiveInt = 512
    growth: GrowthConfig | None = GrowthConfig()

    def build(self, image: ImageSpec) -> "ProGANGenerator":
        """Build the generator for `image`."""
        return ProGANGenerator(self, image)


class ProGANDiscriminatorConfig(BaseDiscriminatorConfig):
    """The discriminator's size, shape and growth; the defaults are the paper's (table 2).

    Attributes:
        channel_base: see the generator.
        channel_max: see the generator.
        growth: schedule of the resolutions, the same as the generator's; null trains at full resolution from the start.
        mbstd_group: number of samples over which the minibatch standard deviation is computed.
        mbstd_channels: number of channels with the minibatch standard deviation; 0 for none.
        taps: coefficients of the low-pass filter that precedes each halving of the resolution; two ones are average
            pooling.
    """

    kind: Literal["progan"] = "progan"
    channel_base: PositiveInt = 16384
    channel_max: PositiveInt = 512
    growth: GrowthConfig | None = GrowthConfig()
    mbstd_group: PositiveInt = 4
    mbstd_channels: NonNegativeInt = 1
    taps: tuple[float, ...] = (1.0, 1.0)

    def build(self, image: ImageSpec) -> "ProGANDiscriminator":
        """Build the discriminator for `image`."""
        return ProGANDiscriminator(self, image, "progan")


class ProGANGenerator(Generator):
    """z, class -> 4x4 features -> blocks of doubling resolution, as many as have come -> image.

    A class is one number more in the latent for each that there is; the paper has none.
    """

    image: ImageSpec

    def __init__(self, config: ProGANGeneratorConfig, image: ImageSpec) -> None:
        super().__init__()
        self.image, self.z_dim = image, config.z_dim
        pyramid = Pyramid.of(image, "progan")
        widths = list(pyramid.widths(config.channel_base, config.channel_max).values())
        self.growth = Growth(config.growth, pyramid.levels)
        self.blocks = nn.ModuleList([_FirstBlock(config.z_dim + image.classes, widths[0], pyramid.start)])
        self.blocks.extend(_Block(channels, width) for channels, width in pairwise(widths))
        self.torgb = nn.ModuleList(EqualizedConv2d(width, image.channels, 1) for width in widths)

    def forward(self, z: Tensor, label: Tensor, *, draws: Draws | None = None, truncation: float = 1.0) -> Tensor:
        """Generate images; see `Generator.forward`. Truncation shortens the latent after its normalisation."""
        latent = unit_second_moment(z.float()) * truncation
        if self.image.classes:
            latent = torch.cat([latent, class_weights(label, self.image.classes)], dim=1)
        return grown_image(latent, self.blocks, self.torgb, self.growth, self.image)

    def stages(self) -> Sequence[nn.Module]:
        """See Generator."""
        return list(self.blocks)

    def grow(self, samples_seen: int) -> None:
        """See Generator."""
        self.growth.grow(samples_seen)

    def calibrate(self, z: Tensor, label: Tensor) -> None:
        """Take over the size that was copied with the weights."""
        self.growth.read()


class ProGANDiscriminator(Discriminator):
    """Image -> as many blocks of halving resolution as have come -> minibatch statistics -> logit.

    A class is a direction that the feature is projected on (Miyato & Koyama 2018).
    """

    def __init__(self, config: ProGANDiscriminatorConfig, image: ImageSpec, family: str) -> None:
        super().__init__()
        self.image = image
        pyramid = Pyramid.of(image, family)
        widths = list(pyramid.widths(config.channel_base, config.channel_max).values())
        self.growth = Growth(config.growth, pyramid.levels)
        self.fromrgb = nn.ModuleList(EqualizedConv2d(image.channels, width, 1, act="lrelu") for width in widths)
        self.blocks = nn.ModuleList([_LastBlock(config, widths[0], pyramid.start)])
        self.blocks.extend(_HalvingBlock(width, out, config.taps) for out, width in pairwise(widths))
        self.features_dim, self.group = widths[0], config.mbstd_group
        self.out = EqualizedLinear(widths[0], 1)
        if image.classes:
            self.embed = EqualizedLinear(image.classes, widths[0])

    def features(self, image: Tensor, label: Tensor) -> list[Tensor]:
        """See Discriminator; there are fewer while the network grows."""
        growth, finest = self.growth, self.growth.finest
        image = growth.reduce(image, finest)
        x: Tensor = self.fromrgb[finest](image)
        found = []
        for index in range(finest, -1, -1):
            x = self.blocks[index](x)
            if growth.fading and index == finest:
                x = self.fromrgb[growth.complete](nn.functional.avg_pool2d(image, 2)).lerp(x, growth.share.to(x.dtype))
            found.append(x)
        found[-1] = found[-1] + at_rest(_unused(self.blocks, self.fromrgb, growth)).to(x.dtype)
        return found

    def head(self, feature: Tensor, label: Tensor) -> Tensor:
        """See Discriminator."""
        logits: Tensor = self.out(feature).squeeze(1).float()
        if self.image.classes:
            direction = self.embed(class_weights(label, self.image.classes)).float()
            logits = logits + (feature.float() * direction).sum(1) / math.sqrt(self.features_dim)
        return logits

    def stages(self) -> Sequence[nn.Module]:
        """See Generator."""
        return list(self.blocks)

    def grow(self, samples_seen: int) -> None:
        """See Generator."""
        self.growth.grow(samples_seen)

    def as_generated(self, real: Tensor) -> Tensor:
        """See Discriminator."""
        return self.growth.limit(real)


def grown_image(
    x: Tensor, blocks: nn.ModuleList, torgb: nn.ModuleList, growth: Growth, image: ImageSpec, *conditions: object
) -> Tensor:
    """Run the blocks that have come, and return what they make as a whole image.

    Args:
        x: what the first block takes.
        blocks: one a level; each also takes `conditions`.
        torgb: features to image, one a level.
        growth: how many of them.
        image: what it makes.
        conditions: what every block takes besides.
    """
    for block in blocks[: growth.complete + 1]:
        x = block(x, *conditions)
    shape = (x.shape[0], *image.shape)
    result = torgb[growth.complete](x).float()
    if growth.fading:
        fine = torgb[growth.finest](blocks[growth.finest](x, *conditions)).float()
        result = enlarge(result, fine.shape).lerp(fine, growth.share)
    return enlarge(result, shape) + at_rest(_unused(blocks, torgb, growth))


def _unused(blocks: nn.ModuleList, converters: nn.ModuleList, growth: Growth) -> list[nn.Module]:
    used = (growth.complete, growth.finest)
    return [*blocks[growth.finest + 1 :], *(part for index, part in enumerate(converters) if index not in used)]


class _FirstBlock(nn.Module):
    """Latent -> 4x4 features, and one convolution."""

    def __init__(self, features: int, width: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size
        self.linear = EqualizedLinear(features, width * math.prod(size), act="lrelu")
        self.conv = EqualizedConv2d(width, width, 3, act="lrelu")

    def forward(self, latent: Tensor) -> Tensor:
        """Map [N, features] to [N, width, *size]."""
        x = channels_last(self.linear(latent).reshape(len(latent), -1, *self.size))
        return pixel_norm(self.conv(pixel_norm(x)))


class _Block(nn.Module):
    """Repeat pixels, and two convolutions."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.conv0 = EqualizedConv2d(channels, width, 3, act="lrelu", up=2, taps=(1, 1))
        self.conv1 = EqualizedConv2d(width, width, 3, act="lrelu")

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to [N, C', 2 * H, 2 * W]."""
        return pixel_norm(self.conv1(pixel_norm(self.conv0(x))))


class _HalvingBlock(nn.Module):
    """Two convolutions, the second with the low-pass filter that halves the resolution."""

    def __init__(self, channels: int, width: int, taps: tuple[float, ...]) -> None:
        super().__init__()
        self.conv0 = EqualizedConv2d(channels, channels, 3, act="lrelu")
        self.conv1 = EqualizedConv2d(channels, width, 3, act="lrelu", down=2, taps=taps)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to [N, C', H / 2, W / 2]."""
        out: Tensor = self.conv1(self.conv0(x))
        return out


class _LastBlock(nn.Module):
    """The 4x4 end: minibatch standard deviation, a convolution, a fully connected layer."""

    def __init__(self, config: ProGANDiscriminatorConfig, width: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.mbstd_group, self.mbstd_channels = config.mbstd_group, config.mbstd_channels
        self.conv = EqualizedConv2d(width + config.mbstd_channels, width, 3, act="lrelu")
        self.linear = EqualizedLinear(width * math.prod(size), width, act="lrelu")

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, *size] to [N, C]."""
        if self.mbstd_channels:
            x = minibatch_stddev(x, self.mbstd_group, self.mbstd_channels)
        out: Tensor = self.linear(self.conv(x).flatten(1))
        return out


def pixel_norm(x: Tensor) -> Tensor:
    """Scale every pixel's vector of features to a mean square of one (section 4.2)."""
    scale = (x.float().square().mean(1, keepdim=True) + 1e-8).rsqrt()
    return x * scale.to(x.dtype)
