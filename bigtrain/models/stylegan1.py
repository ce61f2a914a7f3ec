"""StyleGAN (Karras et al. 2019): styles by adaptive instance normalisation, noise, progressive growing."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from bigtrain.core.rng import Draws
from bigtrain.models.base import BaseGeneratorConfig, ImageSpec
from bigtrain.models.layers.equalized import EqualizedConv2d, EqualizedLinear
from bigtrain.models.layers.growth import Growth, GrowthConfig
from bigtrain.models.layers.pyramid import Pyramid
from bigtrain.models.layers.style_mapping import MappedGenerator
from bigtrain.models.progan import ProGANDiscriminator, ProGANDiscriminatorConfig, grown_image
from bigtrain.models.stylegan2 import Noise
from bigtrain.ops.bias_act import bias_act
from bigtrain.ops.layout import channels_last


class StyleGAN1GeneratorConfig(BaseGeneratorConfig):
    """The generator's size, shape and growth; the defaults are those of the paper's configuration F.

    Attributes:
        z_dim: length of the latent.
        w_dim: length of a style.
        mapping_layers: fully connected layers from z to w.
        channel_base: the number of channels at a resolution is `channel_base / resolution`, at most `channel_max`.
        channel_max: maximum number of channels at a resolution.
        growth: schedule of the resolutions, the same as the discriminator's; null trains at full resolution from the
            start.
        noise: noise inputs, as in StyleGAN2.
        taps: coefficients of the low-pass filter after every doubling of the resolution.
    """

    kind: Literal["stylegan1"] = "stylegan1"
    z_dim: PositiveInt = 512
    w_dim: PositiveInt = 512
    mapping_layers: PositiveInt = 8
    channel_base: PositiveInt = 16384
    channel_max: PositiveInt = 512
    growth: GrowthConfig | None = GrowthConfig(first=8, stable_kimg=600.0, fade_kimg=600.0)
    noise: Noise = "random"
    taps: tuple[float, ...] = (1.0, 3.0, 3.0, 1.0)

    def build(self, image: ImageSpec) -> "StyleGAN1Generator":
        """Build the generator for `image`."""
        return StyleGAN1Generator(self, image)


class StyleGAN1DiscriminatorConfig(ProGANDiscriminatorConfig):
    """ProGAN's discriminator with a better low-pass filter (configuration B); see there."""

    kind: Literal["stylegan1"] = "stylegan1"  # type: ignore[assignment]
    growth: GrowthConfig | None = GrowthConfig(first=8, stable_kimg=600.0, fade_kimg=600.0)
    taps: tuple[float, ...] = (1.0, 3.0, 3.0, 1.0)

    def build(self, image: ImageSpec) -> ProGANDiscriminator:
        """Build the discriminator for `image`."""
        return ProGANDiscriminator(self, image, "stylegan1")


class StyleGAN1Generator(MappedGenerator):
    """z, class -> mapping -> w, two for each resolution -> blocks of doubling resolution -> image."""

    image: ImageSpec

    def __init__(self, config: StyleGAN1GeneratorConfig, image: ImageSpec) -> None:
        pyramid = Pyramid.of(image, "stylegan1")
        super().__init__(
            image,
            z_dim=config.z_dim,
            w_dim=config.w_dim,
            mapping_layers=config.mapping_layers,
            num_ws=2 * len(pyramid.levels),
        )
        widths = list(pyramid.widths(config.channel_base, config.channel_max).values())
        self.growth = Growth(config.growth, pyramid.levels)
        self.blocks = nn.ModuleList([_Block(config, 0, widths[0], pyramid, 4)])
        for level, (channels, width) in zip(pyramid.levels[1:], pairwise(widths), strict=True):
            self.blocks.append(_Block(config, channels, width, pyramid, level))
        self.torgb = nn.ModuleList(EqualizedConv2d(width, image.channels, 1) for width in widths)

    def synthesize(self, ws: Tensor, *, draws: Draws | None = None) -> Tensor:
        """See StyleGenerator."""
        return grown_image(ws[:, 0], self.blocks, self.torgb, self.growth, self.image, ws, draws)

    def stages(self) -> Sequence[nn.Module]:
        """See Generator."""
        return list(self.blocks)

    def grow(self, samples_seen: int) -> None:
        """See Generator."""
        self.growth.grow(samples_seen)

    def calibrate(self, z: Tensor, label: Tensor) -> None:
        """Take over the size that was copied with the weights, and set the centre of mass of W."""
        self.growth.read()
        super().calibrate(z, label)


class _Block(nn.Module):
    """Two layers at one resolution; the first block begins with a learnt constant."""

    def __init__(
        self, config: StyleGAN1GeneratorConfig, channels: int, width: int, pyramid: Pyramid, level: int
    ) -> None:
        super().__init__()
        size = pyramid.size(level)
        self.first_w = 2 * pyramid.levels.index(level)
        if channels:
            self.conv0 = EqualizedConv2d(channels, width, 3, bias=False, up=2, taps=config.taps)
        else:
            self.const = nn.Parameter(torch.empty(width, *size))
        self.style0 = _Style(config, width, size, f"noise{level}.0")
        self.conv1 = EqualizedConv2d(width, width, 3, bias=False)
        self.style1 = _Style(config, width, size, f"noise{level}.1")
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set the constant to one (section 2.1, configuration D)."""
        if hasattr(self, "const"):
            nn.init.ones_(self.const)

    def forward(self, x: Tensor, ws: Tensor, draws: Draws | None) -> Tensor:
        """Map [N, C, H / 2, W / 2] (whatever, in the first block) to [N, C', H, W]."""
        x = channels_last(self.const.expand(len(ws), -1, -1, -1)) if hasattr(self, "const") else self.conv0(x)
        x = self.style0(x, ws[:, self.first_w], draws)
        out: Tensor = self.style1(self.conv1(x), ws[:, self.first_w + 1], draws)
        return out


class _Style(nn.Module):
    """Noise, bias and leaky ReLU, then adaptive instance normalisation (figure 1b, equation 1)."""

    noise_const: Tensor

    def __init__(self, config: StyleGAN1GeneratorConfig, channels: int, size: tuple[int, int], stream: str) -> None:
        super().__init__()
        self.noise, self.size, self.stream = config.noise, size, stream
        self.bias = nn.Parameter(torch.empty(channels))
        self.affine = EqualizedLinear(config.w_dim, 2 * channels)
        if self.noise != "none":
            self.noise_strength = nn.Parameter(torch.empty(channels))
            self.register_buffer("noise_const", torch.empty(size))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Clear the bias, draw the noise's pattern, without effect at first."""
        nn.init.zeros_(self.bias)
        if self.noise != "none":
            nn.init.zeros_(self.noise_strength)
            nn.init.normal_(self.noise_const)

    def forward(self, x: Tensor, w: Tensor, draws: Draws | None) -> Tensor:
        """Map [N, C, *size] to the same shape; statistics are float32."""
        if self.noise != "none":
            x = x + (self._pattern(draws) * self.noise_strength[:, None, None]).to(x.dtype)
        x = bias_act(x, self.bias, act="lrelu")
        var, mean = torch.var_mean(x.float(), dim=(2, 3), correction=0, keepdim=True)
        gain, shift = self.affine(w).float()[:, :, None, None].chunk(2, dim=1)
        scale = (1.0 + gain) * (var + 1e-8).rsqrt()
        centred = x - mean.to(x.dtype)  # first: a constant has a scale of 1e4, by which rounding errors would grow
        return torch.addcmul(shift.to(x.dtype), centred, scale.to(x.dtype))

    def _pattern(self, draws: Draws | None) -> Tensor:
        if draws is None or self.noise == "constant":
            return self.noise_const
        return draws.of(self.stream).normal(1, *self.size)
