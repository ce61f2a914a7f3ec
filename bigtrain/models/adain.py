"""Arbitrary style transfer by adaptive instance normalisation (Huang & Belongie 2017)."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from bigtrain.models.base import ImageSpec
from bigtrain.models.layers.spectral import SpectralConv2d, WeightStyle
from bigtrain.models.pretrained import FeatureMapsName, feature_maps
from bigtrain.models.pretrained.frozen_encoder import FrozenEncoder
from bigtrain.models.styliser import BaseStyliserConfig, Styliser
from bigtrain.models.translator import check_same_size
from bigtrain.ops.layout import channels_last
from bigtrain.ops.padding import pad2d

CHANNELS = {"efficientnet-lite0": (16, 24, 40, 112, 320), "vgg16": (64, 128, 256, 512, 512)}
"""Channels of each encoder's depths."""

FACTORS = {"efficientnet-lite0": (2, 4, 8, 16, 32), "vgg16": (1, 2, 4, 8, 16)}
"""By how much each depth is smaller than the image."""


class AdaINConfig(BaseStyliserConfig):
    """The network's encoder, and the size of its decoder.

    Attributes:
        encoder: pretrained network whose activations are normalised; it is not trained. The weights of
            `efficientnet-lite0` come with a package, those of `vgg16`, whose layers are close to those of the paper's
            VGG19, are got by `bigtrain weights fetch vgg16`.
        weights: file of the encoder's weights, or its folder; null for $BIGTRAIN_WEIGHTS, then the cache.
        depth: which of the encoder's five depths is normalised; 1 is the shallowest.
        width: the decoder's channels at full resolution; they double at each halving.
        convolutions: of the decoder at each resolution.
    """

    kind: Literal["adain"] = "adain"
    encoder: FeatureMapsName = "efficientnet-lite0"
    weights: str | None = None
    depth: int = Field(default=2, ge=1, le=5)
    width: PositiveInt = 64
    convolutions: PositiveInt = 2

    @property
    def weights_path(self) -> Path | None:
        """Where the encoder's weights are; None for the usual places."""
        return Path(self.weights).expanduser() if self.weights else None

    def check_weights(self) -> None:
        """See BaseStyliserConfig."""
        feature_maps(self.encoder, self.weights_path).check()

    def build(self, content: ImageSpec, style: ImageSpec) -> "AdaINStyliser":
        """Build the network that gives `content` images the style of `style` images.

        Raises:
            ValueError: they differ in size or are not in colour.
        """
        return AdaINStyliser(self, content, style)


class AdaINStyliser(Styliser):
    """A frozen encoder, AdaIN, and a decoder of convolutions and doublings without normalisation."""

    kind = "adain"

    def __init__(self, config: AdaINConfig, content: ImageSpec, style: ImageSpec) -> None:
        super().__init__()
        check_same_size(self.kind, content, style)
        if (content.channels, style.channels) != (3, 3):
            raise ValueError(
                f"{self.kind} works on colour images (3 channels), not on {content.channels} and {style.channels}"
            )
        self.input, self.output = content, style
        self.depth, self.multiple = config.depth, FACTORS[config.encoder][config.depth - 1]
        height, width = content.shape[1:]
        if height % self.multiple or width % self.multiple or min(height, width) < 2 * self.multiple:
            raise ValueError(
                f"{self.kind}: {height}x{width} pixels: height and width must be multiples of {self.multiple}, and at "
                f"least {2 * self.multiple}"
            )
        self.encoder = FrozenEncoder(config.encoder, config.weights_path)  # its buffers are no parameters
        channels = CHANNELS[config.encoder][config.depth - 1]
        doublings = self.multiple.bit_length() - 1
        self.decoder = nn.ModuleList()
        for level in reversed(range(doublings + 1)):
            own = config.width * 2**level
            self.decoder.append(_DecoderStage(channels, own, config.convolutions, doubles=level > 0))
            channels = own
        self.to_image = _Convolution(channels, style.channels)

    def encode(self, image: Tensor) -> Sequence[Tensor]:
        """See `Styliser.encode`."""
        found: Sequence[Tensor] = self.encoder(channels_last(image), self.depth)
        return found

    def combine(self, content: Sequence[Tensor], style: Sequence[Tensor]) -> Tensor:
        """See `Styliser.combine`: AdaIN of the deepest activations."""
        return adain(content[-1], style[-1])

    def decode(self, wanted: Tensor) -> Tensor:
        """See `Styliser.decode`."""
        x = channels_last(wanted)
        for stage in self.decoder:
            x = stage(x)
        image: Tensor = self.to_image(x)
        return image.float()

    def stages(self) -> Sequence[nn.Module]:
        """See `Translator.stages`."""
        return list(self.decoder)


class _DecoderStage(nn.Module):
    """Convolutions with ReLUs at one resolution, and a doubling by nearest neighbours."""

    def __init__(self, channels: int, out_channels: int, convolutions: int, *, doubles: bool) -> None:
        super().__init__()
        widths = [channels, *[out_channels] * convolutions]
        self.convolutions = nn.ModuleList(_Convolution(*pair) for pair in pairwise(widths))
        self.doubles = doubles

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to [N, out_channels, s * H, s * W], s 2 or 1."""
        for convolution in self.convolutions:
            x = F.relu(convolution(x))
        return F.interpolate(x, scale_factor=2.0, mode="nearest") if self.doubles else x


class _Convolution(SpectralConv2d):
    """3x3 convolution of an image that is mirrored at its borders."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__(channels, out_channels, 3, padding=0, style=WeightStyle("xavier", spectral=False))

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, channels, H, W] to [N, out_channels, H, W]."""
        return super().forward(pad2d(x, 1, "reflect"))


def adain(content: Tensor, style: Tensor) -> Tensor:
    """Give content the channels' means and deviations of style (Huang & Belongie 2017, equation 8).

    σ(y) (x - μ(x)) / σ(x) + μ(y), with the statistics of each channel of each sample.

    Args:
        content: x, shape [N, C, H, W].
        style: y, shape [N, C, H', W'].

    Returns:
        float32, shape [N, C, H, W].
    """
    mean, deviation = statistics(content)
    style_mean, style_deviation = statistics(style)
    return style_deviation * (content.float() - mean) / deviation + style_mean


def statistics(x: Tensor, eps: float = 1e-5) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each channel of each sample, float32, shape [N, C, 1, 1]."""
    variance, mean = torch.var_mean(x.float(), dim=(2, 3), keepdim=True, correction=0)
    return mean, (variance + eps).sqrt()
