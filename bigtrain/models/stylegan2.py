"""StyleGAN2 with the configurations of StyleGAN2-ADA (Karras et al. 2020a, 2020b).

The parameters carry the names of the published checkpoints, so that those load without a table of names.
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from bigtrain.core.config import Config
from bigtrain.core.rng import Draws
from bigtrain.models.base import Discriminator, ImageSpec, StyleGenerator
from bigtrain.models.layers.equalized import EqualizedConv2d, EqualizedLinear
from bigtrain.models.layers.minibatch import minibatch_stddev
from bigtrain.models.layers.style_mapping import MappingNetwork, truncate
from bigtrain.ops.bias_act import bias_act
from bigtrain.ops.modulated_conv import modulated_conv2d
from bigtrain.ops.upfirdn import fir_filter, upfirdn2d

Architecture = Literal["orig", "skip", "resnet"]


class StyleGAN2GeneratorConfig(Config):
    """The generator's size and shape; the defaults are those of the paper's configuration F."""

    kind: Literal["stylegan2"] = "stylegan2"
    z_dim: int = 512
    w_dim: int = 512
    mapping_layers: int = 8
    channel_base: int = 32768
    channel_max: int = 512
    architecture: Architecture = "skip"
    conv_clamp: float | None = None
    taps: tuple[float, ...] = (1.0, 3.0, 3.0, 1.0)

    def build(self, image: ImageSpec) -> "StyleGAN2Generator":
        """Build the generator for `image`."""
        return StyleGAN2Generator(self, image)


class StyleGAN2DiscriminatorConfig(Config):
    """The discriminator's size and shape; the defaults are those of the paper's configuration F."""

    kind: Literal["stylegan2"] = "stylegan2"
    channel_base: int = 32768
    channel_max: int = 512
    architecture: Architecture = "resnet"
    mapping_layers: int = 8
    mbstd_group: int = 4
    conv_clamp: float | None = None
    taps: tuple[float, ...] = (1.0, 3.0, 3.0, 1.0)

    def build(self, image: ImageSpec) -> "StyleGAN2Discriminator":
        """Build the discriminator for `image`."""
        return StyleGAN2Discriminator(self, image)


class StyleGAN2Generator(StyleGenerator):
    """z, class -> mapping -> w -> synthesis -> image."""

    def __init__(self, config: StyleGAN2GeneratorConfig, image: ImageSpec) -> None:
        super().__init__()
        self.image, self.z_dim, self.w_dim = image, config.z_dim, config.w_dim
        self.synthesis = SynthesisNetwork(config, image)
        self.num_ws = self.synthesis.num_ws
        self.mapping = MappingNetwork(config.z_dim, config.w_dim, image.classes, config.mapping_layers)
        self.register_buffer("w_avg", torch.zeros(config.w_dim))
        self.w_avg: Tensor

    def styles(self, z: Tensor, label: Tensor, *, truncation: float = 1.0, cutoff: int | None = None) -> Tensor:
        """See StyleGenerator; truncation pulls towards the centre of mass of W."""
        ws = self.mapping(z, label)[:, None].expand(-1, self.num_ws, -1)
        return truncate(ws, self.w_avg, truncation, cutoff)

    def synthesize(self, ws: Tensor, *, draws: Draws | None = None) -> Tensor:
        """See StyleGenerator."""
        image: Tensor = self.synthesis(ws, draws=draws)
        return image

    @torch.no_grad()
    def calibrate(self, z: Tensor, label: Tensor) -> None:
        """Set the centre of mass of W, towards which truncation pulls (Karras et al. 2019, appendix B)."""
        self.w_avg.copy_(self.mapping(z, label).float().mean(0))


class StyleGAN2Discriminator(Discriminator):
    """Image -> blocks of halving resolution -> minibatch statistics -> logit, projected on the class."""

    def __init__(self, config: StyleGAN2DiscriminatorConfig, image: ImageSpec) -> None:
        super().__init__()
        self.image = image
        self.architecture = config.architecture
        self.resolutions = _resolutions(image.resolution)[::-1]
        widths = _widths(image.resolution, config.channel_base, config.channel_max)
        for resolution in self.resolutions[:-1]:
            block = DiscriminatorBlock(config, image, widths, resolution)
            self.add_module(f"b{resolution}", block)
        if image.classes:
            self.mapping = MappingNetwork(0, widths[4], image.classes, config.mapping_layers)
        self.b4 = DiscriminatorEpilogue(config, image, widths[4])
        self.features_dim = widths[4]

    def features(self, image: Tensor, label: Tensor) -> list[Tensor]:
        """See Discriminator."""
        x: Tensor | None = None
        found: list[Tensor] = []
        for resolution in self.resolutions[:-1]:
            x, image = self.get_submodule(f"b{resolution}")(x, image)
            found.append(x)
        found.append(self.b4(x, image))
        return found

    def head(self, feature: Tensor, label: Tensor) -> Tensor:
        """See Discriminator; a class is a direction that the feature is projected on (Miyato & Koyama 2018)."""
        x: Tensor = self.b4.out(feature).float()
        if not self.image.classes:
            return x.squeeze(1)
        condition: Tensor = self.mapping(None, label).float()
        return (x * condition).sum(1) / math.sqrt(condition.shape[1])


class SynthesisNetwork(nn.Module):
    """w for every layer -> image: blocks of doubling resolution from a learnt 4x4 constant."""

    def __init__(self, config: StyleGAN2GeneratorConfig, image: ImageSpec) -> None:
        super().__init__()
        self.resolutions = _resolutions(image.resolution)
        widths = _widths(image.resolution, config.channel_base, config.channel_max)
        for resolution in self.resolutions:
            self.add_module(f"b{resolution}", SynthesisBlock(config, image, widths, resolution))
        self.num_ws = 2 * len(self.resolutions)

    def forward(self, ws: Tensor, *, draws: Draws | None = None) -> Tensor:
        """Generate images from ws [N, num_ws, w_dim]; a block's ToRGB shares its w with the next block."""
        x: Tensor | None = None
        image: Tensor | None = None
        first = 0
        for resolution in self.resolutions:
            block = self.get_submodule(f"b{resolution}")
            x, image = block(x, image, ws[:, first:], draws)
            first += 1 if resolution == 4 else 2
        assert image is not None
        return image.float()


class SynthesisBlock(nn.Module):
    """Two modulated convolutions at one resolution (one at 4x4), and what the architecture adds."""

    def __init__(
        self, config: StyleGAN2GeneratorConfig, image: ImageSpec, widths: dict[int, int], resolution: int
    ) -> None:
        super().__init__()
        self.architecture = config.architecture
        self.register_buffer("fir", fir_filter(config.taps), persistent=False)
        self.fir: Tensor
        self.first = resolution == 4
        width, width_in = widths[resolution], widths[max(resolution // 2, 4)]
        if self.first:
            self.const = nn.Parameter(torch.randn(width, 4, 4))
        else:
            self.conv0 = SynthesisLayer(config, width_in, width, resolution, up=2)
            if config.architecture == "resnet":
                self.skip = EqualizedConv2d(width_in, width, 1, bias=False, up=2, taps=config.taps)
        self.conv1 = SynthesisLayer(config, width, width, resolution)
        self.has_rgb = config.architecture == "skip" or resolution == image.resolution
        if self.has_rgb:
            self.torgb = ToRGB(config, width, image.channels)

    def forward(
        self, x: Tensor | None, image: Tensor | None, ws: Tensor, draws: Draws | None
    ) -> tuple[Tensor, Tensor | None]:
        """Turn features [N, C, R/2, R/2] into [N, C', R, R], and add this resolution's part of the image."""
        if x is None:
            x = self.const.expand(len(ws), -1, -1, -1).contiguous(memory_format=torch.channels_last)
            x, used = self.conv1(x, ws[:, 0], draws), 1
        elif self.architecture == "resnet":
            shortcut = self.skip(x, gain=math.sqrt(0.5))
            x = self.conv0(x, ws[:, 0], draws)
            x, used = shortcut + self.conv1(x, ws[:, 1], draws, gain=math.sqrt(0.5)), 2
        else:
            x, used = self.conv1(self.conv0(x, ws[:, 0], draws), ws[:, 1], draws), 2
        if image is not None:
            image = upfirdn2d(image, self.fir, up=2, padding=_up_padding(self.fir), gain=4)
        if self.has_rgb:
            rgb = self.torgb(x, ws[:, used]).float()
            image = rgb if image is None else image + rgb
        return x, image


class SynthesisLayer(nn.Module):
    """Modulated convolution, noise, bias and leaky ReLU (Karras et al. 2020a, figure 2d)."""

    def __init__(
        self, config: StyleGAN2GeneratorConfig, channels: int, out_channels: int, resolution: int, up: int = 1
    ) -> None:
        super().__init__()
        self.up, self.clamp, self.resolution = up, config.conv_clamp, resolution
        self.affine = EqualizedLinear(config.w_dim, channels, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn(out_channels, channels, 3, 3))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.register_buffer("noise_const", torch.randn(resolution, resolution))
        self.register_buffer("fir", fir_filter(config.taps), persistent=False)
        self.noise_const: Tensor
        self.fir: Tensor

    def forward(self, x: Tensor, w: Tensor, draws: Draws | None, gain: float = 1.0) -> Tensor:
        """Map [N, C, H, W] to [N, C', H * up, W * up]; noise is the layer's constant where there are no draws."""
        x = modulated_conv2d(x, self.weight, self.affine(w), fir=self.fir, up=self.up)
        noise = self.noise_const
        if draws is not None:
            noise = draws.of(f"noise{self.resolution}.{self.up}").normal(1, self.resolution, self.resolution)
        x = x + (noise * self.noise_strength).to(x.dtype)
        return bias_act(x, self.bias, act="lrelu", gain=gain, clamp=self.clamp)


class ToRGB(nn.Module):
    """Modulated 1x1 convolution to the image's channels, without demodulation."""

    def __init__(self, config: StyleGAN2GeneratorConfig, channels: int, image_channels: int) -> None:
        super().__init__()
        self.clamp = config.conv_clamp
        self.affine = EqualizedLinear(config.w_dim, channels, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn(image_channels, channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(image_channels))
        self.weight_gain = 1.0 / math.sqrt(channels)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Map [N, C, H, W] to [N, image_channels, H, W]."""
        x = modulated_conv2d(x, self.weight, self.affine(w) * self.weight_gain, demodulate=False)
        return bias_act(x, self.bias, clamp=self.clamp)


class DiscriminatorBlock(nn.Module):
    """Two convolutions, the second halving the resolution, and what the architecture adds."""

    def __init__(
        self, config: StyleGAN2DiscriminatorConfig, image: ImageSpec, widths: dict[int, int], resolution: int
    ) -> None:
        super().__init__()
        self.architecture = config.architecture
        self.register_buffer("fir", fir_filter(config.taps), persistent=False)
        self.fir: Tensor
        width, width_out = widths[resolution], widths[resolution // 2]
        first = resolution == image.resolution
        if first or config.architecture == "skip":
            self.fromrgb = EqualizedConv2d(image.channels, width, 1, act="lrelu", clamp=config.conv_clamp)
        self.conv0 = EqualizedConv2d(width, width, 3, act="lrelu", clamp=config.conv_clamp)
        self.conv1 = EqualizedConv2d(
            width, width_out, 3, act="lrelu", down=2, taps=config.taps, clamp=config.conv_clamp
        )
        if config.architecture == "resnet":
            self.skip = EqualizedConv2d(width, width_out, 1, bias=False, down=2, taps=config.taps)

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

    def __init__(self, config: StyleGAN2DiscriminatorConfig, image: ImageSpec, width: int) -> None:
        super().__init__()
        self.mbstd_group = config.mbstd_group
        if config.architecture == "skip":
            self.fromrgb = EqualizedConv2d(image.channels, width, 1, act="lrelu")
        self.conv = EqualizedConv2d(
            width + (1 if config.mbstd_group > 1 else 0), width, 3, act="lrelu", clamp=config.conv_clamp
        )
        self.fc = EqualizedLinear(width * 16, width, act="lrelu")
        self.out = EqualizedLinear(width, width if image.classes else 1)

    def forward(self, x: Tensor, image: Tensor) -> Tensor:
        """Turn features [N, C, 4, 4] into [N, C]; the output layer is the head's."""
        if hasattr(self, "fromrgb"):
            x = x + self.fromrgb(image)
        if self.mbstd_group > 1:
            x = minibatch_stddev(x, self.mbstd_group)
        out: Tensor = self.fc(self.conv(x).flatten(1))
        return out


def _resolutions(top: int) -> list[int]:
    if top < 8 or top & (top - 1):
        raise ValueError(f"stylegan2 needs a resolution that is a power of two from 8 up, got {top}")
    return [2**power for power in range(2, top.bit_length())]


def _widths(top: int, channel_base: int, channel_max: int) -> dict[int, int]:
    return {resolution: min(channel_base // resolution, channel_max) for resolution in _resolutions(top)}


def _up_padding(fir: Tensor) -> tuple[int, int, int, int]:
    near, far = (len(fir) + 1) // 2, (len(fir) - 2) // 2
    return near, far, near, far


def _down_padding(fir: Tensor) -> tuple[int, int, int, int]:
    near, far = (len(fir) - 1) // 2, (len(fir) - 2) // 2
    return near, far, near, far
