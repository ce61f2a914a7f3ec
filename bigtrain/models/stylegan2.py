"""StyleGAN2 with the configurations of StyleGAN2-ADA (Karras et al. 2020a, 2020b).

The parameters carry the names of the published checkpoints, so that those load without a table of names.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn

from bigtrain.core.rng import Draws
from bigtrain.models.base import BaseDiscriminatorConfig, BaseGeneratorConfig, Discriminator, ImageSpec
from bigtrain.models.layers.equalized import EqualizedConv2d, EqualizedLinear
from bigtrain.models.layers.minibatch import minibatch_stddev
from bigtrain.models.layers.pyramid import Pyramid
from bigtrain.models.layers.style_mapping import MappedGenerator, MappingNetwork
from bigtrain.ops.bias_act import ACTIVATION_GAIN, activate, bias_act
from bigtrain.ops.layout import channels_last
from bigtrain.ops.modulated_conv import modulated_conv2d
from bigtrain.ops.upfirdn import fir_filter, upfirdn2d

Architecture = Literal["orig", "skip", "resnet"]
"""How blocks are joined: one after the other; by their sum of images; by residual connections (figure 7)."""

Noise = Literal["random", "constant", "none"]
"""Drawn for each image where there are draws, and the layer's own pattern otherwise; always that; no noise at all."""


class StyleGAN2GeneratorConfig(BaseGeneratorConfig):
    """The generator's size and shape; the defaults are those of the paper's configuration F.

    Attributes:
        z_dim: length of the latent.
        w_dim: length of a style.
        mapping_layers: number of fully connected layers from z to w (ADA uses 2 below 1024 pixels).
        channel_base: the number of channels at a resolution is `channel_base / resolution`, at most `channel_max`.
        channel_max: maximum number of channels at a resolution.
        architecture: how the blocks are connected.
        noise: noise inputs; `random` and `constant` have the same parameters.
        conv_clamp: maximum absolute value of the activations, for low precision; null for no maximum (ADA uses 256 with
            float16).
        taps: coefficients of the low-pass filter at every change of resolution.
    """

    kind: Literal["stylegan2"] = "stylegan2"
    z_dim: PositiveInt = 512
    w_dim: PositiveInt = 512
    mapping_layers: PositiveInt = 8
    channel_base: PositiveInt = 32768
    channel_max: PositiveInt = 512
    architecture: Architecture = "skip"
    noise: Noise = "random"
    conv_clamp: PositiveFloat | None = None
    taps: tuple[float, ...] = (1.0, 3.0, 3.0, 1.0)

    def build(self, image: ImageSpec) -> "StyleGAN2Generator":
        """Build the generator for `image`."""
        return StyleGAN2Generator(self, image)


class StyleGAN2DiscriminatorConfig(BaseDiscriminatorConfig):
    """The discriminator's size and shape; the defaults are those of the paper's configuration F.

    Attributes:
        channel_base: see the generator.
        channel_max: see the generator.
        architecture: how the blocks are connected.
        mapping_layers: number of fully connected layers for the class.
        mbstd_group: number of samples over which the minibatch standard deviation is computed.
        mbstd_channels: number of channels with the minibatch standard deviation; 0 for none.
        conv_clamp: see the generator.
        taps: see the generator.
    """

    kind: Literal["stylegan2"] = "stylegan2"
    channel_base: PositiveInt = 32768
    channel_max: PositiveInt = 512
    architecture: Architecture = "resnet"
    mapping_layers: NonNegativeInt = 8
    mbstd_group: PositiveInt = 4
    mbstd_channels: NonNegativeInt = 1
    conv_clamp: PositiveFloat | None = None
    taps: tuple[float, ...] = (1.0, 3.0, 3.0, 1.0)

    def build(self, image: ImageSpec) -> "StyleGAN2Discriminator":
        """Build the discriminator for `image`."""
        return StyleGAN2Discriminator(self, image)


class StyleGAN2Generator(MappedGenerator):
    """z, class -> mapping -> w -> synthesis -> image."""

    def __init__(self, config: StyleGAN2GeneratorConfig, image: ImageSpec) -> None:
        synthesis = SynthesisNetwork(config, image)
        super().__init__(
            image,
            z_dim=config.z_dim,
            w_dim=config.w_dim,
            mapping_layers=config.mapping_layers,
            num_ws=synthesis.num_ws,
        )
        self.synthesis = synthesis

    def synthesize(self, ws: Tensor, *, draws: Draws | None = None) -> Tensor:
        """See StyleGenerator."""
        image: Tensor = self.synthesis(ws, draws=draws)
        return image

    def stages(self) -> Sequence[nn.Module]:
        """See Generator."""
        return self.synthesis.blocks()


class StyleGAN2Discriminator(Discriminator):
    """Image -> blocks of halving resolution -> minibatch statistics -> logit, projected on the class."""

    def __init__(self, config: StyleGAN2DiscriminatorConfig, image: ImageSpec) -> None:
        super().__init__()
        self.image = image
        pyramid = Pyramid.of(image, "stylegan2")
        widths = pyramid.widths(config.channel_base, config.channel_max)
        self.names = [f"b{level}" for level in pyramid.levels[:0:-1]]
        for level, name in zip(pyramid.levels[:0:-1], self.names, strict=True):
            self.add_module(name, DiscriminatorBlock(config, image, widths, level, first=level == pyramid.top))
        if image.classes:
            self.mapping = MappingNetwork(0, widths[4], image.classes, config.mapping_layers)
        self.b4 = DiscriminatorEpilogue(config, image, widths[4], pyramid.start)
        self.features_dim, self.group = widths[4], config.mbstd_group

    def features(self, image: Tensor, label: Tensor) -> list[Tensor]:
        """See Discriminator."""
        x: Tensor | None = None
        found: list[Tensor] = []
        for block in self.stages():
            x, image = block(x, image)
            found.append(x)
        found.append(self.b4(x, image))
        return found

    def stages(self) -> Sequence[nn.Module]:
        """See Generator."""
        return [self.get_submodule(name) for name in self.names]

    def head(self, feature: Tensor, label: Tensor) -> Tensor:
        """See Discriminator; a class is a direction that the feature is projected on (Miyato & Koyama 2018)."""
        x: Tensor = self.b4.out(feature).float()
        if not self.image.classes:
            return x.squeeze(1)
        condition: Tensor = self.mapping(None, label).float()
        return (x * condition).sum(1) / math.sqrt(condition.shape[1])


class SynthesisNetwork(nn.Module):
    """w for every layer -> image: blocks of doubling resolution from a learnt constant of 4x4, or 4 times more."""

    def __init__(self, config: StyleGAN2GeneratorConfig, image: ImageSpec) -> None:
        super().__init__()
        pyramid = Pyramid.of(image, "stylegan2")
        self.names = [f"b{level}" for level in pyramid.levels]
        for level, name in zip(pyramid.levels, self.names, strict=True):
            self.add_module(name, SynthesisBlock(config, image, pyramid, level))
        self.num_ws = 2 * len(self.names)

    def blocks(self) -> list[nn.Module]:
        """Return the blocks in order."""
        return [self.get_submodule(name) for name in self.names]

    def forward(self, ws: Tensor, *, draws: Draws | None = None) -> Tensor:
        """Generate images from ws [N, num_ws, w_dim]; a block's ToRGB shares its w with the next block."""
        x: Tensor | None = None
        image: Tensor | None = None
        first = 0
        for block in self.blocks():
            x, image = block(x, image, ws[:, first:], draws)
            first += 2 if first else 1
        assert image is not None
        return image.float()


class SynthesisBlock(nn.Module):
    """Two modulated convolutions at one resolution (one at the first), and what the architecture adds."""

    fir: Tensor

    def __init__(self, config: StyleGAN2GeneratorConfig, image: ImageSpec, pyramid: Pyramid, level: int) -> None:
        super().__init__()
        self.architecture, self.taps = config.architecture, config.taps
        self.register_buffer("fir", torch.empty(len(self.taps), len(self.taps)), persistent=False)
        self.first = level == 4
        widths, size = pyramid.widths(config.channel_base, config.channel_max), pyramid.size(level)
        width, width_in = widths[level], widths[max(level // 2, 4)]
        if self.first:
            self.const = nn.Parameter(torch.empty(width, *size))
        else:
            self.conv0 = SynthesisLayer(config, width_in, width, size, up=2)
            if config.architecture == "resnet":
                self.skip = EqualizedConv2d(width_in, width, 1, bias=False, up=2, taps=config.taps)
        self.conv1 = SynthesisLayer(config, width, width, size)
        self.has_rgb = config.architecture == "skip" or level == pyramid.top
        if self.has_rgb:
            self.torgb = ToRGB(config, width, image.channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the constant, compute the filter."""
        self.fir.copy_(fir_filter(self.taps))
        if self.first:
            nn.init.normal_(self.const)

    def forward(
        self, x: Tensor | None, image: Tensor | None, ws: Tensor, draws: Draws | None
    ) -> tuple[Tensor, Tensor | None]:
        """Turn features [N, C, R/2, R/2] into [N, C', R, R], and add this resolution's part of the image."""
        if x is None:
            x = channels_last(self.const.expand(ws.shape[0], -1, -1, -1))
            x, used = self.conv1(x, ws[:, 0], draws), 1
        elif self.architecture == "resnet":
            shortcut = self.skip(x, gain=math.sqrt(0.5))
            x = self.conv0(x, ws[:, 0], draws)
            x, used = shortcut + self.conv1(x, ws[:, 1], draws, gain=math.sqrt(0.5)), 2
        else:
            x, used = self.conv1(self.conv0(x, ws[:, 0], draws), ws[:, 1], draws), 2
        if image is not None:
            image = upfirdn2d(image, self.fir, up=2, padding=up_padding(self.fir), gain=4)
        if self.has_rgb:
            rgb = self.torgb(x, ws[:, used]).float()
            image = rgb if image is None else image + rgb
        return x, image


class SynthesisLayer(nn.Module):
    """Modulated convolution, noise, bias and leaky ReLU (Karras et al. 2020a, figure 2d)."""

    noise_const: Tensor
    fir: Tensor

    def __init__(
        self,
        config: StyleGAN2GeneratorConfig,
        channels: int,
        out_channels: int,
        size: tuple[int, int],
        up: int = 1,
    ) -> None:
        super().__init__()
        self.up, self.clamp, self.size, self.noise, self.taps = up, config.conv_clamp, size, config.noise, config.taps
        self.affine = EqualizedLinear(config.w_dim, channels, bias_init=1.0)
        self.weight = nn.Parameter(torch.empty(out_channels, channels, 3, 3))
        self.bias = nn.Parameter(torch.empty(out_channels))
        if self.noise != "none":
            self.noise_strength = nn.Parameter(torch.empty(()))
            self.register_buffer("noise_const", torch.empty(size))
        self.register_buffer("fir", torch.empty(len(self.taps), len(self.taps)), persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights and the noise's pattern, without effect at first; compute the filter."""
        self.fir.copy_(fir_filter(self.taps))
        nn.init.normal_(self.weight)
        nn.init.zeros_(self.bias)
        if self.noise != "none":
            nn.init.zeros_(self.noise_strength)
            nn.init.normal_(self.noise_const)

    def forward(self, x: Tensor, w: Tensor, draws: Draws | None, gain: float = 1.0) -> Tensor:
        """Map [N, C, H, W] to [N, C', H * up, W * up]."""
        # The gain behind the activation stands in the demodulation, the noise and the bias, which are smaller.
        total = ACTIVATION_GAIN["lrelu"] * gain
        noise = None if self.noise == "none" else self._pattern(draws) * (self.noise_strength * total)
        x = modulated_conv2d(x, self.weight, self.affine(w), fir=self.fir, up=self.up, gain=total, offset=noise)
        x = activate(x + (self.bias * total).to(x.dtype)[:, None, None], "lrelu")
        return x if self.clamp is None else x.clamp(-self.clamp * gain, self.clamp * gain)

    def _pattern(self, draws: Draws | None) -> Tensor:
        if draws is None or self.noise == "constant":
            return self.noise_const
        level = min(self.size)
        return draws.of(f"noise{level}.{self.up}").normal(1, *self.size)


class ToRGB(nn.Module):
    """Modulated 1x1 convolution to the image's channels, without demodulation."""

    def __init__(self, config: StyleGAN2GeneratorConfig, channels: int, image_channels: int) -> None:
        super().__init__()
        self.clamp = config.conv_clamp
        self.affine = EqualizedLinear(config.w_dim, channels, bias_init=1.0)
        self.weight = nn.Parameter(torch.empty(image_channels, channels, 1, 1))
        self.bias = nn.Parameter(torch.empty(image_channels))
        self.weight_gain = 1.0 / math.sqrt(channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights."""
        nn.init.normal_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Map [N, C, H, W] to [N, image_channels, H, W]."""
        x = modulated_conv2d(x, self.weight, self.affine(w) * self.weight_gain, demodulate=False)
        return bias_act(x, self.bias, clamp=self.clamp)


class DiscriminatorBlock(nn.Module):
    """Two convolutions, the second halving the resolution, and what the architecture adds."""

    fir: Tensor

    def __init__(
        self,
        config: StyleGAN2DiscriminatorConfig,
        image: ImageSpec,
        widths: dict[int, int],
        level: int,
        *,
        first: bool,
    ) -> None:
        super().__init__()
        self.architecture, self.taps = config.architecture, config.taps
        self.register_buffer("fir", torch.empty(len(self.taps), len(self.taps)), persistent=False)
        width, width_out = widths[level], widths[level // 2]
        if first or config.architecture == "skip":
            self.fromrgb = EqualizedConv2d(image.channels, width, 1, act="lrelu", clamp=config.conv_clamp)
        self.conv0 = EqualizedConv2d(width, width, 3, act="lrelu", clamp=config.conv_clamp)
        self.conv1 = EqualizedConv2d(
            width, width_out, 3, act="lrelu", down=2, taps=config.taps, clamp=config.conv_clamp
        )
        if config.architecture == "resnet":
            self.skip = EqualizedConv2d(width, width_out, 1, bias=False, down=2, taps=config.taps)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Compute the filter."""
        self.fir.copy_(fir_filter(self.taps))

    def forward(self, x: Tensor | None, image: Tensor) -> tuple[Tensor, Tensor]:
        """Turn features [N, C, R, R] (None in the first block) and the image into those of the next block."""
        if x is None or self.architecture == "skip":
            rgb = self.fromrgb(image)
            x = rgb if x is None else x + rgb
        if self.architecture == "skip":
            image = upfirdn2d(image, self.fir, down=2, padding=_down_padding(self.fir))
        if self.architecture == "resnet":
            shortcut = self.skip(x, gain=math.sqrt(0.5))
            return shortcut + self.conv1(self.conv0(x), gain=math.sqrt(0.5)), image
        return self.conv1(self.conv0(x)), image


class DiscriminatorEpilogue(nn.Module):
    """The 4x4 end of D: minibatch standard deviation, a convolution, a fully connected layer, the output layer."""

    def __init__(
        self, config: StyleGAN2DiscriminatorConfig, image: ImageSpec, width: int, size: tuple[int, int]
    ) -> None:
        super().__init__()
        self.mbstd_group, self.mbstd_channels = config.mbstd_group, config.mbstd_channels
        if config.architecture == "skip":
            self.fromrgb = EqualizedConv2d(image.channels, width, 1, act="lrelu")
        self.conv = EqualizedConv2d(width + self.mbstd_channels, width, 3, act="lrelu", clamp=config.conv_clamp)
        self.fc = EqualizedLinear(width * math.prod(size), width, act="lrelu")
        self.out = EqualizedLinear(width, width if image.classes else 1)

    def forward(self, x: Tensor, image: Tensor) -> Tensor:
        """Turn features [N, C, 4, 4] into [N, C]; the output layer is the head's."""
        if hasattr(self, "fromrgb"):
            x = x + self.fromrgb(image)
        if self.mbstd_channels:
            x = minibatch_stddev(x, self.mbstd_group, self.mbstd_channels)
        out: Tensor = self.fc(self.conv(x).flatten(1))
        return out


def up_padding(fir: Tensor) -> tuple[int, int, int, int]:
    """Return the padding of `upfirdn2d` with which up-sampling by two doubles the sides."""
    near, far = (len(fir) + 1) // 2, (len(fir) - 2) // 2
    return near, far, near, far


def _down_padding(fir: Tensor) -> tuple[int, int, int, int]:
    near, far = (len(fir) - 1) // 2, (len(fir) - 2) // 2
    return near, far, near, far
