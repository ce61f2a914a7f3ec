"""BigGAN-deep (Brock, Donahue & Simonyan 2019), appendix B, figure 16: bottlenecks, and shortcuts without weights.

The parameters carry the names of the published PyTorch code, so that its checkpoints load without a table of names.
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
from bigtrain.models.base import BaseGeneratorConfig, Discriminator, Generator, ImageSpec
from bigtrain.models.biggan import (
    DISCRIMINATOR_WIDTHS,
    GENERATOR_WIDTHS,
    ResidualDiscriminatorConfig,
    attention_blocks,
    bottom_size,
    check_halvings,
    conditional_norm,
    output_layer,
    paper_multiples,
    upsample,
)
from bigtrain.models.layers.attention import SelfAttention
from bigtrain.models.layers.conditional_batch_norm import set_standing_statistics
from bigtrain.models.layers.conditioning import ClassTable, class_weights
from bigtrain.models.layers.projection_discriminator import SpectralProjection
from bigtrain.models.layers.spectral import (
    Initialisation,
    SpectralConv2d,
    SpectralLinear,
    WeightStyle,
)
from bigtrain.ops.layout import channels_last

_BOTTLENECK = 4


class BigGANDeepGeneratorConfig(BaseGeneratorConfig):
    """The generator's size and shape.

    Attributes:
        z_dim: length of the latent; every block gets all of it, with the class embedding.
        width: base number of channels (`ch`; 128 in the paper).
        depth: blocks per resolution (2 in the paper); the last of them doubles the resolution.
        attention: resolutions (of the shorter side) after which there is self-attention.
        shared_dim: length of the class embedding.
        multiples: channels at 4x4, 8x8, ... as multiples of `width`; null for those of the paper.
        init: initialisation of the weights.
        power_iterations: power iterations of the spectral normalisation in each forward pass.
        calibration_batch: latents per batch when the standing statistics are computed.
    """

    kind: Literal["biggan-deep"] = "biggan-deep"
    z_dim: PositiveInt = 128
    width: PositiveInt = 128
    depth: PositiveInt = 2
    attention: tuple[int, ...] = ()
    shared_dim: PositiveInt = 128
    multiples: tuple[int, ...] | None = None
    init: Initialisation = "orthogonal"
    power_iterations: PositiveInt = 1
    calibration_batch: PositiveInt = 128

    def build(self, image: ImageSpec) -> Generator:
        """Build the generator for `image`."""
        return BigGANDeepGenerator(self, image)


class BigGANDeepDiscriminatorConfig(ResidualDiscriminatorConfig):
    """The discriminator's size and shape; `multiples` are those of the first convolution and of each stage.

    Attributes:
        depth: blocks per resolution (2 in the paper); the first of them halves the resolution.
    """

    kind: Literal["biggan-deep"] = "biggan-deep"
    width: PositiveInt = 128
    depth: PositiveInt = 2

    def build(self, image: ImageSpec) -> Discriminator:
        """Build the discriminator for `image`."""
        return BigGANDeepDiscriminator(self, image)


class BigGANDeepGenerator(Generator):
    """z and class -> features of 4 pixels -> bottleneck blocks, the last of each stage doubling -> image."""

    def __init__(self, config: BigGANDeepGeneratorConfig, image: ImageSpec) -> None:
        super().__init__()
        multiples = config.multiples or paper_multiples(GENERATOR_WIDTHS, image)
        self.bottom = bottom_size(image, len(multiples))
        widths = [multiple * config.width for multiple in multiples]
        style = WeightStyle(config.init, iterations=config.power_iterations)
        self.image, self.z_dim, self.calibration_batch = image, config.z_dim, config.calibration_batch
        condition = config.z_dim
        if image.classes:
            self.shared = ClassTable(image.classes, config.shared_dim, style)
            condition += config.shared_dim
        self.linear = SpectralLinear(condition, widths[0] * math.prod(self.bottom), style=style)
        self.blocks = nn.ModuleList()
        for stage, (channels, out_channels) in enumerate(pairwise(widths), 1):
            for _ in range(config.depth - 1):
                self.blocks.append(nn.ModuleList([BottleneckUp(channels, channels, condition, up=False, style=style)]))
            last: list[nn.Module] = [BottleneckUp(channels, out_channels, condition, up=True, style=style)]
            if min(self.bottom) * 2**stage in config.attention:
                last.append(SelfAttention(out_channels, style))
            self.blocks.append(nn.ModuleList(last))
        self.output_layer = output_layer(widths[-1], image, style)

    def forward(self, z: Tensor, label: Tensor, *, draws: Draws | None = None, truncation: float = 1.0) -> Tensor:
        """Generate images; see `Generator.forward`. Truncation scales z."""
        condition = z * truncation
        if self.image.classes:
            condition = torch.cat([self.shared(class_weights(label, self.image.classes)), condition], dim=1)
        x = channels_last(self.linear(condition).unflatten(1, (-1, *self.bottom)))
        for stage in self.blocks:
            block, *attention = stage.children()
            x = block(x, condition)
            for layer in attention:
                x = layer(x)
        return torch.tanh(self.output_layer(x).float())

    def stages(self) -> Sequence[nn.Module]:
        """See Generator."""
        return [layer for stage in self.blocks for layer in stage.children()]

    def calibrate(self, z: Tensor, label: Tensor) -> None:
        """Set the standing batch statistics (section 3, "sampling")."""
        set_standing_statistics(self, z, label, batch=self.calibration_batch)


class BigGANDeepDiscriminator(SpectralProjection):
    """Image -> bottleneck blocks, the first of each stage halving -> sum over positions -> logit and projection."""

    def __init__(self, config: BigGANDeepDiscriminatorConfig, image: ImageSpec) -> None:
        super().__init__()
        self.image = image
        multiples = config.multiples or paper_multiples(DISCRIMINATOR_WIDTHS, image)
        widths, style = [multiple * config.width for multiple in multiples], config.style
        stages = len(widths) - 1
        halvings = config.halvings or (2 if min(image.shape[1:]) == 32 else stages)
        check_halvings(image, halvings)
        after = attention_blocks(config, image, stages, halvings)
        self.input_conv = SpectralConv2d(image.channels, widths[0], 3, style=style)
        self.blocks = nn.ModuleList()
        for stage, (channels, out_channels) in enumerate(pairwise(widths)):
            layers: list[nn.Module] = [BottleneckDown(channels, out_channels, down=stage < halvings, style=style)]
            layers += [
                BottleneckDown(out_channels, out_channels, down=False, style=style) for _ in range(config.depth - 1)
            ]
            if stage in after:
                layers.append(SelfAttention(out_channels, style))
            self.blocks.append(nn.Sequential(*layers))
        self.add_head(widths[-1], style)

    def features(self, image: Tensor, label: Tensor) -> list[Tensor]:
        """See Discriminator."""
        x, found = self.input_conv(image), []
        for stage in self.blocks:
            x = stage(x)
            found.append(x)
        found.append(F.relu(x).float().sum((2, 3)))
        return found


class BottleneckUp(nn.Module):
    """1x1, two 3x3, 1x1, each after normalisation and ReLU; the shortcut drops channels and repeats pixels."""

    def __init__(self, channels: int, out_channels: int, condition: int, *, up: bool, style: WeightStyle) -> None:
        super().__init__()
        inner = channels // _BOTTLENECK
        self.up, self.out_channels = up, out_channels
        self.conv1 = SpectralConv2d(channels, inner, 1, style=style)
        self.conv2 = SpectralConv2d(inner, inner, 3, style=style)
        self.conv3 = SpectralConv2d(inner, inner, 3, style=style)
        self.conv4 = SpectralConv2d(inner, out_channels, 1, style=style)
        self.bn1 = conditional_norm(channels, condition, 0, style)
        self.bn2, self.bn3, self.bn4 = (conditional_norm(inner, condition, 0, style) for _ in range(3))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Map [N, C, H, W] to [N, C', 2 * H, 2 * W] (or H, W)."""
        y = F.relu(self.bn2(self.conv1(F.relu(self.bn1(x, condition))), condition))
        x = x[:, : self.out_channels]
        if self.up:
            x, y = upsample(x), upsample(y)
        y = self.conv2(y)
        y = self.conv3(F.relu(self.bn3(y, condition)))
        out: Tensor = x + self.conv4(F.relu(self.bn4(y, condition)))
        return out


class BottleneckDown(nn.Module):
    """1x1, two 3x3, 1x1, each after ReLU; the shortcut pools, and a 1x1 convolution makes what channels it lacks."""

    def __init__(self, channels: int, out_channels: int, *, down: bool, style: WeightStyle) -> None:
        super().__init__()
        inner = out_channels // _BOTTLENECK
        self.down = down
        self.conv1 = SpectralConv2d(channels, inner, 1, style=style)
        self.conv2 = SpectralConv2d(inner, inner, 3, style=style)
        self.conv3 = SpectralConv2d(inner, inner, 3, style=style)
        self.conv4 = SpectralConv2d(inner, out_channels, 1, style=style)
        if channels != out_channels:
            self.conv_sc = SpectralConv2d(channels, out_channels - channels, 1, style=style)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to [N, C', H / 2, W / 2] (or H, W)."""
        y = self.conv2(F.relu(self.conv1(F.relu(x))))
        y = F.relu(self.conv3(F.relu(y)))
        if self.down:
            x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
        if hasattr(self, "conv_sc"):
            x = torch.cat([x, self.conv_sc(x)], dim=1)
        out: Tensor = x + self.conv4(y)
        return out
