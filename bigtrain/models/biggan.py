"""BigGAN (Brock, Donahue & Simonyan 2019), appendix B, figure 15.

The parameters carry the names of the published PyTorch checkpoints, so that those load without a table of names.
"""

from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bigtrain.core.config import Config
from bigtrain.core.rng import Draws
from bigtrain.models.base import Discriminator, Generator, ImageSpec
from bigtrain.models.layers.attention import SelfAttention
from bigtrain.models.layers.conditional_batch_norm import BatchNorm, BatchStatistics, ConditionalBatchNorm
from bigtrain.models.layers.conditioning import class_weights
from bigtrain.models.layers.spectral import SpectralConv2d, SpectralEmbedding, SpectralLinear

_GENERATOR_WIDTHS = {
    32: (4, 4, 4, 4),
    64: (16, 16, 8, 4, 2),
    128: (16, 16, 8, 4, 2, 1),
    256: (16, 16, 8, 8, 4, 2, 1),
    512: (16, 16, 8, 8, 4, 2, 1, 1),
}
"""Channels at 4x4, 8x8, ... as multiples of the base width."""

_DISCRIMINATOR_WIDTHS = {
    32: (4, 4, 4, 4),
    64: (1, 2, 4, 8, 16),
    128: (1, 2, 4, 8, 16, 16),
    256: (1, 2, 4, 8, 8, 16, 16),
    512: (1, 1, 2, 4, 8, 8, 16, 16),
}
"""Channels after each block as multiples of the base width."""


class BigGANGeneratorConfig(Config):
    """The generator's size and shape.

    Attributes:
        z_dim: length of the latent; with `hierarchical` it is cut into one part a block and one for the first layer.
        width: base number of channels (`ch`; 96 in the paper at 128x128).
        attention: resolutions that get self-attention.
        shared_dim: length of one class embedding for all layers; 0 gives each layer its own table.
        hierarchical: feed a part of z to every block; needs a shared embedding.
        multiples: channels at 4x4, 8x8, ... as multiples of `width`; None for the paper's.
        calibration_batch: latents a batch when the standing statistics are computed.
    """

    kind: Literal["biggan"] = "biggan"
    z_dim: int = 128
    width: int = 96
    attention: tuple[int, ...] = ()
    shared_dim: int = 0
    hierarchical: bool = False
    multiples: tuple[int, ...] | None = None
    calibration_batch: int = 128

    def build(self, image: ImageSpec) -> "BigGANGenerator":
        """Build the generator for `image`."""
        return BigGANGenerator(self, image)


class BigGANDiscriminatorConfig(Config):
    """The discriminator's size and shape.

    Attributes:
        width: base number of channels (`ch`).
        attention: resolutions that get self-attention.
        multiples: channels after each block as multiples of `width`; None for the paper's.
        halvings: number of blocks, from the first, that halve the resolution; None for the paper's.
    """

    kind: Literal["biggan"] = "biggan"
    width: int = 96
    attention: tuple[int, ...] = ()
    multiples: tuple[int, ...] | None = None
    halvings: int | None = None

    def build(self, image: ImageSpec) -> "BigGANDiscriminator":
        """Build the discriminator for `image`."""
        return BigGANDiscriminator(self, image)


class BigGANGenerator(Generator):
    """z, class -> 4x4 features -> residual blocks of doubling resolution -> image."""

    def __init__(self, config: BigGANGeneratorConfig, image: ImageSpec) -> None:
        super().__init__()
        multiples = config.multiples or _paper_multiples(_GENERATOR_WIDTHS, image.resolution)
        if 4 * 2 ** (len(multiples) - 1) != image.resolution:
            raise ValueError(
                f"generator.multiples: {len(multiples)} values do not lead from 4 to {image.resolution} pixels"
            )
        widths = [multiple * config.width for multiple in multiples]
        if config.hierarchical and not config.shared_dim:
            raise ValueError("biggan: a hierarchical z needs shared_dim, the class embedding that it is appended to")
        self.image = image
        self.parts = len(widths) if config.hierarchical else 1
        part = config.z_dim // self.parts
        self.z_dim = part * self.parts
        self.calibration_batch = config.calibration_batch
        if config.shared_dim:
            self.shared = _ClassTable(max(image.classes, 1), config.shared_dim)
        condition = config.shared_dim + (part if config.hierarchical else 0)
        self.linear = SpectralLinear(part, widths[0] * 16)
        self.blocks = nn.ModuleList()
        for depth, (channels, out_channels) in enumerate(pairwise(widths), 1):
            stage: list[nn.Module] = [GeneratorBlock(channels, out_channels, condition, max(image.classes, 1))]
            if 4 * 2**depth in config.attention:
                stage.append(SelfAttention(out_channels))
            self.blocks.append(nn.ModuleList(stage))
        self.output_layer = nn.Sequential(
            BatchNorm(widths[-1]), nn.ReLU(), SpectralConv2d(widths[-1], image.channels, 3)
        )

    def forward(self, z: Tensor, label: Tensor, *, draws: Draws | None = None, truncation: float = 1.0) -> Tensor:
        """Generate images; see `Generator.forward`. Truncation scales z, a smooth form of the truncation trick."""
        first, *rest = (z * truncation).chunk(self.parts, dim=1)
        weights = class_weights(label, self.image.classes) if self.image.classes else z.new_ones(len(z), 1)
        condition = self.shared(weights) if hasattr(self, "shared") else weights
        x = self.linear(first).unflatten(1, (-1, 4, 4)).contiguous(memory_format=torch.channels_last)
        for depth, stage in enumerate(self.blocks):
            block, *attention = stage.children()
            x = block(x, torch.cat([condition, rest[depth]], dim=1) if rest else condition)
            for layer in attention:
                x = layer(x)
        return torch.tanh(self.output_layer(x).float())

    @torch.no_grad()
    def calibrate(self, z: Tensor, label: Tensor) -> None:
        """Set the standing batch statistics: their mean over batches of latents (section 3, "sampling")."""
        layers = [module for module in self.modules() if isinstance(module, BatchStatistics)]
        was_training, momentum = self.training, [layer.momentum for layer in layers]
        # Only the batch normalisation leaves evaluation mode: the spectral norm's state must not move.
        self.eval()
        for layer in layers:
            layer.train()
        for count, start in enumerate(range(0, len(z), self.calibration_batch), 1):
            for layer in layers:
                layer.momentum = 1.0 / count
            rows = slice(start, start + self.calibration_batch)
            self(z[rows], label[rows])
        for layer, value in zip(layers, momentum, strict=True):
            layer.momentum = value
        self.train(was_training)


class BigGANDiscriminator(Discriminator):
    """Image -> residual blocks -> sum over positions -> logit, plus its projection on the class."""

    def __init__(self, config: BigGANDiscriminatorConfig, image: ImageSpec) -> None:
        super().__init__()
        self.image = image
        multiples = config.multiples or _paper_multiples(_DISCRIMINATOR_WIDTHS, image.resolution)
        widths = [multiple * config.width for multiple in multiples]
        # At 32x32 the paper's last two blocks stay at 8x8; above, only the last one keeps its resolution.
        halvings = config.halvings or (2 if image.resolution == 32 else len(widths) - 1)
        self.blocks = nn.ModuleList()
        resolution = image.resolution
        for depth, (channels, out_channels) in enumerate(zip([image.channels, *widths[:-1]], widths, strict=True)):
            down = depth < halvings
            resolution //= 2 if down else 1
            stage: list[nn.Module] = [DiscriminatorBlock(channels, out_channels, down=down, first=depth == 0)]
            if down and resolution in config.attention:
                stage.append(SelfAttention(out_channels))
            self.blocks.append(nn.Sequential(*stage))
        self.features_dim = widths[-1]
        self.linear = SpectralLinear(widths[-1], 1)
        if image.classes:
            self.embed = SpectralEmbedding(image.classes, widths[-1])

    def features(self, image: Tensor, label: Tensor) -> list[Tensor]:
        """See Discriminator."""
        x, found = image, []
        for stage in self.blocks:
            x = stage(x)
            found.append(x)
        found.append(F.relu(x).float().sum((2, 3)))
        return found

    def head(self, feature: Tensor, label: Tensor) -> Tensor:
        """See Discriminator; a class adds its projection (Miyato & Koyama 2018)."""
        logits: Tensor = self.linear(feature).squeeze(1).float()
        if self.image.classes:
            logits = logits + (self.embed(class_weights(label, self.image.classes)) * feature).sum(1)
        return logits.float()


class GeneratorBlock(nn.Module):
    """Normalise, ReLU, up-sample, convolve; again without up-sampling; plus a 1x1 shortcut."""

    def __init__(self, channels: int, out_channels: int, condition: int, classes: int) -> None:
        super().__init__()
        self.conv1 = SpectralConv2d(channels, out_channels, 3)
        self.conv2 = SpectralConv2d(out_channels, out_channels, 3)
        self.conv_sc = SpectralConv2d(channels, out_channels, 1)
        self.bn1 = _conditional_norm(channels, condition, classes)
        self.bn2 = _conditional_norm(out_channels, condition, classes)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Map [N, C, H, W] to [N, C', 2 * H, 2 * W]."""
        y = self.conv1(_upsample(F.relu(self.bn1(x, condition))))
        y = self.conv2(F.relu(self.bn2(y, condition)))
        # A 1x1 convolution commutes with nearest-neighbour up-sampling, and is four times cheaper before it.
        out: Tensor = y + _upsample(self.conv_sc(x))
        return out


class DiscriminatorBlock(nn.Module):
    """Two convolutions after ReLU, average pooling, and a 1x1 shortcut; the first block takes the bare image."""

    def __init__(self, channels: int, out_channels: int, *, down: bool, first: bool) -> None:
        super().__init__()
        self.down, self.first = down, first
        self.conv1 = SpectralConv2d(channels, out_channels, 3)
        self.conv2 = SpectralConv2d(out_channels, out_channels, 3)
        if channels != out_channels or down:
            self.conv_sc = SpectralConv2d(channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to [N, C', H / 2, W / 2] (or H, W)."""
        y = self.conv2(F.relu(self.conv1(x if self.first else F.relu(x))))
        if self.down:
            # Pooling commutes with the shortcut's 1x1 convolution, and makes it four times cheaper.
            y, x = F.avg_pool2d(y, 2), F.avg_pool2d(x, 2)
        out: Tensor = y + (self.conv_sc(x) if hasattr(self, "conv_sc") else x)
        return out


class _ClassTable(nn.Module):
    """One vector a class, without spectral normalisation."""

    def __init__(self, classes: int, features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(nn.init.orthogonal_(torch.empty(classes, features)))

    def forward(self, weights: Tensor) -> Tensor:
        """Map class weights [N, classes] to [N, features]."""
        return weights @ self.weight


def _conditional_norm(channels: int, condition: int, classes: int) -> ConditionalBatchNorm:
    if condition:
        gain, bias = (SpectralLinear(condition, channels, bias=False) for _ in range(2))
        return ConditionalBatchNorm(channels, gain, bias)
    return ConditionalBatchNorm(channels, _ClassTable(classes, channels), _ClassTable(classes, channels))


def _upsample(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="nearest")


def _paper_multiples(table: dict[int, tuple[int, ...]], resolution: int) -> tuple[int, ...]:
    if resolution not in table:
        raise ValueError(f"biggan comes in resolutions {', '.join(map(str, table))}, got {resolution}")
    return table[resolution]
