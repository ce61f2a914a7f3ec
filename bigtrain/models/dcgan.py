"""DCGAN (Radford et al. 2016): strided convolutions, batch normalisation, small normal initial weights.

A class enters by concatenation, as in conditional GANs (Mirza & Osindero 2014): its embedding is appended to the latent
in G, and to the image's channels, the same at every pixel, in D, unless D has a projection (Miyato & Koyama 2018).
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import PositiveInt
from torch import Tensor, nn

from bigtrain.core.rng import Draws
from bigtrain.models.base import BaseDiscriminatorConfig, BaseGeneratorConfig, Discriminator, Generator, ImageSpec
from bigtrain.models.layers.conditional_batch_norm import BatchNorm, set_standing_statistics
from bigtrain.models.layers.conditioning import ClassTable, class_weights
from bigtrain.models.layers.layer_norm import ChannelLayerNorm
from bigtrain.models.layers.spectral import SpectralLinear, WeightStyle
from bigtrain.ops.layout import channels_last

_STYLE = WeightStyle("normal", spectral=False)

Norm = Literal["batch", "layer", "none"]


class DCGANGeneratorConfig(BaseGeneratorConfig):
    """The generator's size and shape.

    Attributes:
        z_dim: length of the latent.
        width: channels before the image; they double towards 4x4, up to eight times this number (1024 in the paper).
        norm: normalisation after each layer but the last; `layer` and `none` do not mix the samples of a batch.
        label_dim: length of the class embedding.
        calibration_batch: latents per batch when the standing statistics are computed.
    """

    kind: Literal["dcgan"] = "dcgan"
    z_dim: PositiveInt = 100
    width: PositiveInt = 128
    norm: Norm = "batch"
    label_dim: PositiveInt = 32
    calibration_batch: PositiveInt = 128

    def build(self, image: ImageSpec) -> Generator:
        """Build the generator for `image`."""
        return DCGANGenerator(self, image)


class DCGANDiscriminatorConfig(BaseDiscriminatorConfig):
    """The discriminator's size and shape.

    Attributes:
        width: channels after the first layer; they double, up to eight times this number.
        norm: normalisation after each layer but the first.
        conditioning: where the class enters: by its embedding as channels of the image (`channels`), or by the product
            of its vector with the last features (`projection`).
        label_dim: number of channels of the class embedding, for `channels`.
    """

    kind: Literal["dcgan"] = "dcgan"
    width: PositiveInt = 128
    norm: Norm = "batch"
    conditioning: Literal["channels", "projection"] = "channels"
    label_dim: PositiveInt = 8

    def build(self, image: ImageSpec) -> Discriminator:
        """Build the discriminator for `image`."""
        projected = self.conditioning == "projection"
        return ConvolutionalDiscriminator(image, self.width, self.norm, None if projected else self.label_dim)


class DCGANGenerator(Generator):
    """z and class -> features of 4 pixels -> transposed convolutions of stride 2 -> image."""

    def __init__(self, config: DCGANGeneratorConfig, image: ImageSpec) -> None:
        super().__init__()
        self.image, self.z_dim, self.calibration_batch = image, config.z_dim, config.calibration_batch
        self.bottom, widths = _pyramid(image, config.width)
        widths = widths[::-1]
        features = config.z_dim
        if image.classes:
            self.embedding = ClassTable(image.classes, config.label_dim, WeightStyle("xavier"))
            features += config.label_dim
        self.linear = SpectralLinear(features, widths[0] * math.prod(self.bottom), bias=False, style=_STYLE)
        self.norm = normalisation(config.norm, widths[0])
        self.blocks = nn.ModuleList()
        for channels, out_channels in pairwise(widths):
            convolution = TransposedConv2d(channels, out_channels, bias=config.norm == "none")
            self.blocks.append(nn.Sequential(convolution, normalisation(config.norm, out_channels), nn.ReLU()))
        self.to_image = TransposedConv2d(widths[-1], image.channels, bias=True)

    def forward(self, z: Tensor, label: Tensor, *, draws: Draws | None = None, truncation: float = 1.0) -> Tensor:
        """Generate images; see `Generator.forward`. Truncation scales z."""
        z = z * truncation
        if self.image.classes:
            z = torch.cat([z, self.embedding(class_weights(label, self.image.classes)).to(z.dtype)], dim=1)
        x = channels_last(self.linear(z).unflatten(1, (-1, *self.bottom)))
        x = F.relu(self.norm(x))
        for block in self.blocks:
            x = block(x)
        return torch.tanh(self.to_image(x).float())

    def stages(self) -> Sequence[nn.Module]:
        """See Generator."""
        return list(self.blocks)

    def calibrate(self, z: Tensor, label: Tensor) -> None:
        """Set the standing batch statistics, where there are any."""
        set_standing_statistics(self, z, label, batch=self.calibration_batch)


class ConvolutionalDiscriminator(Discriminator):
    """Image and class -> convolutions of stride 2 with leaky ReLU -> logit.

    Args:
        image: what it judges.
        width: channels after the first layer.
        norm: after each layer but the first.
        label_dim: channels of the class embedding; None for a projection of the class instead.
    """

    def __init__(self, image: ImageSpec, width: int, norm: Norm, label_dim: int | None) -> None:
        super().__init__()
        self.image = image
        bottom, widths = _pyramid(image, width)
        channels = image.channels
        if image.classes and label_dim is not None:
            self.embedding = ClassTable(image.classes, label_dim, WeightStyle("xavier"))
            channels += label_dim
        self.blocks = nn.ModuleList()
        for depth, out_channels in enumerate(widths):
            kind: Norm = norm if depth else "none"
            convolution = StridedConv2d(channels, out_channels, bias=kind == "none")
            self.blocks.append(nn.Sequential(convolution, normalisation(kind, out_channels), nn.LeakyReLU(0.2)))
            channels = out_channels
        self.features_dim = channels * math.prod(bottom)
        self.linear = SpectralLinear(self.features_dim, 1, style=_STYLE)
        if image.classes and label_dim is None:
            self.projection = ClassTable(image.classes, self.features_dim, _STYLE)

    def features(self, image: Tensor, label: Tensor) -> list[Tensor]:
        """See Discriminator; the class is among the input's channels, unless it is projected."""
        x, found = image, []
        if hasattr(self, "embedding"):
            embedding = self.embedding(class_weights(label, self.image.classes)).to(image.dtype)
            x = torch.cat([image, embedding[:, :, None, None].expand(-1, -1, *image.shape[2:])], dim=1)
        for block in self.blocks:
            x = block(x)
            found.append(x)
        found.append(x.flatten(1).float())
        return found

    def head(self, feature: Tensor, label: Tensor) -> Tensor:
        """See Discriminator."""
        logits: Tensor = self.linear(feature).squeeze(1).float()
        if hasattr(self, "projection"):
            logits = logits + (self.projection(class_weights(label, self.image.classes)) * feature).sum(1).float()
        return logits

    def stages(self) -> Sequence[nn.Module]:
        """See Generator."""
        return list(self.blocks)


class StridedConv2d(nn.Conv2d):
    """4x4 convolution that halves the resolution."""

    def __init__(self, channels: int, out_channels: int, *, bias: bool) -> None:
        super().__init__(channels, out_channels, 4, 2, 1, bias=bias)

    def reset_parameters(self) -> None:
        """Fill weight and bias anew."""
        _reset(self.weight, self.bias)


class TransposedConv2d(nn.ConvTranspose2d):
    """4x4 transposed convolution that doubles the resolution."""

    def __init__(self, channels: int, out_channels: int, *, bias: bool) -> None:
        super().__init__(channels, out_channels, 4, 2, 1, bias=bias)

    def reset_parameters(self) -> None:
        """Fill weight and bias anew."""
        _reset(self.weight, self.bias)


def normalisation(kind: Norm, channels: int) -> nn.Module:
    """Build the normalisation of a layer with so many channels."""
    if kind == "batch":
        return BatchNorm(channels)
    return ChannelLayerNorm(channels) if kind == "layer" else nn.Identity()


def _reset(weight: Tensor, bias: Tensor | None) -> None:
    _STYLE.initialise(weight)
    if bias is not None:
        nn.init.zeros_(bias)


def _pyramid(image: ImageSpec, width: int) -> tuple[tuple[int, int], list[int]]:
    """Return the size at the bottom and the channels of each level, from the image down."""
    _, height, image_width = image.shape
    levels = int(math.log2(max(min(height, image_width) // 4, 1)))
    if not levels or height % 2**levels or image_width % 2**levels:
        raise ValueError(
            f"dcgan halves its images down to 4 to 7 pixels, but {height}x{image_width} cannot be halved so often"
        )
    return (height >> levels, image_width >> levels), [width * min(2**level, 8) for level in range(levels)]
