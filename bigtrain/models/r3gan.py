"""R3GAN (Huang et al. 2024, "The GAN is dead; long live the GAN!"), section 4 and appendix.

A ResNet without normalisation: inverted bottlenecks with grouped convolutions, leaky ReLU, resampling through a
low-pass filter, and an initialisation (Fix-up, Zhang et al. 2019) that makes normalisation unnecessary.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn

from bigtrain.core.config import Config
from bigtrain.core.rng import Draws
from bigtrain.models.base import BaseDiscriminatorConfig, BaseGeneratorConfig, Discriminator, Generator, ImageSpec
from bigtrain.models.layers.conditioning import class_weights
from bigtrain.ops.bias_act import leaky_relu
from bigtrain.ops.convolution import conv2d
from bigtrain.ops.layout import channels_last
from bigtrain.ops.upfirdn import fir_filter, upfirdn2d

_SLOPE = 0.2
_EXPANSION = 2
_GAIN = math.sqrt(2.0 / (1.0 + _SLOPE**2))
"""He's gain of a leaky ReLU, which is in the initial weights, not in the activation."""


class Shape(NamedTuple):
    """Widths, groups of the 3x3 convolutions and blocks of each stage, from 4x4 up."""

    widths: tuple[int, ...]
    groups: tuple[int, ...]
    blocks: tuple[int, ...]


PresetName = Literal["cifar10", "ffhq64", "ffhq256", "imagenet32", "imagenet64"]
PRESETS: dict[PresetName, Shape] = {
    "cifar10": Shape((768,) * 4, (96,) * 4, (2,) * 4),
    "ffhq64": Shape((768,) * 4 + (384,), (96,) * 4 + (48,), (2,) * 5),
    "ffhq256": Shape((768,) * 4 + (384, 192, 96), (96,) * 4 + (48, 24, 12), (2,) * 7),
    "imagenet32": Shape((1536,) * 4, (96,) * 4, (2,) * 4),
    "imagenet64": Shape((1536,) * 5, (96,) * 5, (2,) * 5),
}
"""The networks of the paper's experiments, both G and D."""


class _ShapeConfig(Config):
    """Shape of both networks: a preset of the paper, or stages given one by one.

    Attributes:
        preset: preset of the paper, named after its dataset; the resolution is that of the data.
        scale: factor on the preset's widths and groups (0.5 for half of them).
        widths: channels of each stage, from the lowest resolution to the highest; each stage but the first doubles the
            resolution.
        groups: number of groups of the 3x3 convolutions in each stage (the paper's cardinality).
        blocks: number of residual blocks in each stage.
    """

    preset: PresetName | None = None
    scale: PositiveFloat = 1.0
    widths: tuple[int, ...] | None = None
    groups: tuple[int, ...] | None = None
    blocks: tuple[int, ...] | None = None

    @property
    def shape(self) -> Shape:
        """Resolve the preset; what is given beside it wins.

        Raises:
            ValueError: no preset, and not all of widths, groups and blocks; stages that do not fit together.
        """
        preset = PRESETS[self.preset] if self.preset else None
        given = (self.widths, self.groups, self.blocks)
        if preset is None:
            if None in given:
                raise ValueError("r3gan needs a preset, or widths, groups and blocks")
            preset = Shape((), (), ())
        widths, groups, blocks = (value or default for value, default in zip(given, preset, strict=True))
        if not len(widths) == len(groups) == len(blocks):
            raise ValueError(f"r3gan: {len(widths)} widths, {len(groups)} groups and {len(blocks)} blocks")
        widths = widths if self.widths else tuple(round(width * self.scale) for width in widths)
        groups = groups if self.groups else tuple(round(count * self.scale) for count in groups)
        for width, count in zip(widths, groups, strict=True):
            if count < 1 or width * _EXPANSION % count:
                raise ValueError(f"r3gan: {width * _EXPANSION} inner channels do not divide into {count} groups")
        return Shape(widths, groups, blocks)


class R3GANGeneratorConfig(_ShapeConfig, BaseGeneratorConfig):
    """The generator, from `preset`, or from `widths`, `groups` and `blocks`.

    Attributes:
        z_dim: length of the latent.
        label_dim: length of the class embedding, which is appended to the latent; null for `z_dim`.
    """

    kind: Literal["r3gan"] = "r3gan"
    z_dim: PositiveInt = 64
    label_dim: PositiveInt | None = None

    def build(self, image: ImageSpec) -> "R3GANGenerator":
        """Build the generator for `image`."""
        return R3GANGenerator(self, image)


class R3GANDiscriminatorConfig(_ShapeConfig, BaseDiscriminatorConfig):
    """The discriminator, which mirrors the generator; its stages are also given from the lowest resolution up.

    Attributes:
        label_dim: length of the class embedding for the projection; null for the first width.
    """

    kind: Literal["r3gan"] = "r3gan"
    label_dim: PositiveInt | None = None

    def build(self, image: ImageSpec) -> "R3GANDiscriminator":
        """Build the discriminator for `image`."""
        return R3GANDiscriminator(self, image)


class R3GANGenerator(Generator):
    """z and class -> learnt basis, weighted -> residual blocks, up-sampling between the stages -> image."""

    def __init__(self, config: R3GANGeneratorConfig, image: ImageSpec) -> None:
        super().__init__()
        shape = config.shape
        self.image, self.z_dim = image, config.z_dim
        features = config.z_dim
        if image.classes:
            label_dim = config.label_dim or config.z_dim
            self.embedding = ScaledLinear(image.classes, label_dim)
            features += label_dim
        self.basis = GenerativeBasis(features, shape.widths[0], _bottom(image, shape))
        self.upsamplers = nn.ModuleList(Upsample(width_in, width) for width_in, width in pairwise(shape.widths))
        self.blocks = _residual_stages(shape)
        self.to_image = ScaledConv2d(shape.widths[-1], image.channels, 1)

    def forward(self, z: Tensor, label: Tensor, *, draws: Draws | None = None, truncation: float = 1.0) -> Tensor:
        """Generate images; see `Generator.forward`. Truncation scales z; the paper has none."""
        z = z * truncation
        if self.image.classes:
            z = torch.cat([z, self.embedding(class_weights(label, self.image.classes)).to(z.dtype)], dim=1)
        x = self.blocks[0](channels_last(self.basis(z)))
        for upsample, blocks in zip(self.upsamplers, list(self.blocks)[1:], strict=True):
            x = blocks(upsample(x))
        image: Tensor = self.to_image(x).float()
        return image

    def stages(self) -> Sequence[nn.Module]:
        """See Generator."""
        return [block for stage in self.blocks for block in stage.children()]


class R3GANDiscriminator(Discriminator):
    """Image -> residual blocks, down-sampling between the stages -> learnt basis -> logit, projected on the class."""

    def __init__(self, config: R3GANDiscriminatorConfig, image: ImageSpec) -> None:
        super().__init__()
        shape = config.shape
        self.image = image
        top_down = Shape(*(values[::-1] for values in shape))
        self.from_image = ScaledConv2d(image.channels, top_down.widths[0], 1)
        self.blocks = _residual_stages(top_down)
        self.downsamplers = nn.ModuleList(Downsample(width_in, width) for width_in, width in pairwise(top_down.widths))
        self.features_dim = shape.widths[0]
        self.basis = DiscriminativeBasis(self.features_dim, _bottom(image, shape))
        label_dim = (config.label_dim or self.features_dim) if image.classes else 1
        self.linear = ScaledLinear(self.features_dim, label_dim)
        if image.classes:
            self.embedding = ScaledLinear(image.classes, label_dim, gain=1.0 / math.sqrt(label_dim))

    def features(self, image: Tensor, label: Tensor) -> list[Tensor]:
        """See Discriminator."""
        x = self.blocks[0](self.from_image(image))
        found = [x]
        for downsample, blocks in zip(self.downsamplers, list(self.blocks)[1:], strict=True):
            x = blocks(downsample(x))
            found.append(x)
        found.append(self.basis(x))
        return found

    def head(self, feature: Tensor, label: Tensor) -> Tensor:
        """See Discriminator; a class is a direction that the feature is projected on (Miyato & Koyama 2018)."""
        x: Tensor = self.linear(feature).float()
        if not self.image.classes:
            return x.squeeze(1)
        direction: Tensor = self.embedding(class_weights(label, self.image.classes)).float()
        return (x * direction).sum(1)

    def stages(self) -> Sequence[nn.Module]:
        """See Generator."""
        return [block for stage in self.blocks for block in stage.children()]


class ResidualBlock(nn.Module):
    """Inverted bottleneck: 1x1 to twice the width, grouped 3x3, 1x1 back, added to the input.

    Args:
        channels: width.
        groups: of the 3x3 convolution.
        blocks: residual blocks in the whole network, which Fix-up scales the first weights by; the last starts at zero.
    """

    def __init__(self, channels: int, groups: int, blocks: int) -> None:
        super().__init__()
        inner, gain = channels * _EXPANSION, _GAIN * blocks**-0.25
        self.conv1 = ScaledConv2d(channels, inner, 1, gain=gain)
        self.bias1 = Bias(inner)
        self.conv2 = ScaledConv2d(inner, inner, 3, groups=groups, gain=gain)
        self.bias2 = Bias(inner)
        self.conv3 = ScaledConv2d(inner, channels, 1, gain=0.0)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to the same shape."""
        y = leaky_relu(self.conv1(x, self.bias1.bias), _SLOPE)
        y = leaky_relu(self.conv2(y, self.bias2.bias), _SLOPE)
        out: Tensor = x + self.conv3(y)
        return out


class ScaledConv2d(nn.Module):
    """Convolution with "same" padding, no bias of its own; weights start normal with deviation gain / sqrt(fan in)."""

    def __init__(self, channels: int, out_channels: int, kernel_size: int, *, groups: int = 1, gain: float = 1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_channels, channels // groups, kernel_size, kernel_size))
        self.groups, self.gain = groups, gain
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Fill the weight anew."""
        nn.init.normal_(self.weight, std=self.gain / math.sqrt(self.weight[0].numel()))

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """Map [N, C, H, W] to [N, C', H, W]; `bias` [C'] is added."""
        return conv2d(x, self.weight, bias, padding=self.weight.shape[-1] // 2, groups=self.groups)


class ScaledLinear(nn.Module):
    """Fully connected layer without a bias; the weights start normal with deviation gain / sqrt(features)."""

    def __init__(self, features: int, out_features: int, *, gain: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_features, features))
        self.gain = gain
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Fill the weight anew."""
        nn.init.normal_(self.weight, std=self.gain / math.sqrt(self.weight.shape[1]))

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, features] to [N, out_features]."""
        return F.linear(x, self.weight)


class Bias(nn.Module):
    """One number for each channel, 0 at first, which the convolution before it adds."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.empty(channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start at zero."""
        nn.init.zeros_(self.bias)


class GenerativeBasis(nn.Module):
    """A learnt image of features, each channel scaled by a linear function of the input."""

    def __init__(self, features: int, channels: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.basis = nn.Parameter(torch.empty(channels, *size))
        self.linear = ScaledLinear(features, channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Fill the basis anew."""
        nn.init.normal_(self.basis)

    def forward(self, z: Tensor) -> Tensor:
        """Map [N, features] to [N, channels, *size]."""
        scale: Tensor = self.linear(z)
        return self.basis.to(scale.dtype) * scale[:, :, None, None]


class DiscriminativeBasis(nn.Module):
    """The inner product of each channel with a learnt image."""

    def __init__(self, channels: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.basis = nn.Parameter(torch.empty(channels, 1, *size))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Fill the basis anew."""
        nn.init.normal_(self.basis, std=1.0 / math.sqrt(self.basis[0].numel()))

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, channels, *size] to [N, channels], in float32."""
        return (x.float() * self.basis[:, 0]).sum((2, 3))


class Upsample(nn.Module):
    """1x1 convolution where the width changes, then twice the resolution."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = ScaledConv2d(channels, out_channels, 1) if channels != out_channels else None
        self.register_buffer("fir", torch.empty(4, 4), persistent=False)
        self.fir: Tensor
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Fill the filter."""
        self.fir.copy_(fir_filter((1.0, 3.0, 3.0, 1.0)))

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to [N, C', 2 * H, 2 * W]."""
        if self.conv is not None:
            x = self.conv(x)
        return upfirdn2d(x, self.fir, up=2, padding=(2, 1, 2, 1), gain=4.0)


class Downsample(nn.Module):
    """Half the resolution, then a 1x1 convolution where the width changes."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = ScaledConv2d(channels, out_channels, 1) if channels != out_channels else None
        self.register_buffer("fir", torch.empty(4, 4), persistent=False)
        self.fir: Tensor
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Fill the filter."""
        self.fir.copy_(fir_filter((1.0, 3.0, 3.0, 1.0)))

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to [N, C', H / 2, W / 2]."""
        x = upfirdn2d(x, self.fir, down=2, padding=(1, 1, 1, 1))
        return x if self.conv is None else self.conv(x)


def _residual_stages(shape: Shape) -> nn.ModuleList:
    total = sum(shape.blocks)
    return nn.ModuleList(
        nn.Sequential(*(ResidualBlock(width, groups, total) for _ in range(blocks)))
        for width, groups, blocks in zip(*shape, strict=True)
    )


def _bottom(image: ImageSpec, shape: Shape) -> tuple[int, int]:
    _, height, width = image.shape
    scale = 2 ** (len(shape.widths) - 1)
    if height % scale or width % scale or not 4 <= min(height, width) // scale < 8:
        raise ValueError(f"r3gan: {len(shape.widths)} stages do not double 4 pixels to {height}x{width} pixels")
    return height // scale, width // scale
