"""pix2pix's generator: a U-Net of strided convolutions (Isola et al. 2017, section 3.2.2 and appendix 6.1.1)."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from bigtrain.core.rng import Draws
from bigtrain.models.base import ImageSpec
from bigtrain.models.layers.drawn_dropout import DrawnDropout
from bigtrain.models.layers.normalisation import ImageNorm, bias_before, image_norm
from bigtrain.models.layers.spectral import SpectralConv2d, WeightStyle
from bigtrain.models.layers.transposed import TransposedConv2d
from bigtrain.models.translator import BaseTranslatorConfig, Translator, check_same_size
from bigtrain.ops.layout import channels_last

_STYLE = WeightStyle("normal", spectral=False)
_MOST_DOWNS = 8


class Pix2PixUNetConfig(BaseTranslatorConfig):
    """The U-Net's size and shape.

    Attributes:
        width: channels at half the resolution; they double at each halving, up to eight times this number.
        downs: how often the resolution is halved; null for as often as both sides allow, at most 8 (256 pixels become
            one, as in the paper).
        norm: normalisation after each layer but the first, the innermost and the last.
        dropout: dropout probability in the decoder; dropout is the network's noise.
        dropout_blocks: number of blocks of the decoder with dropout, from the innermost on.
    """

    kind: Literal["pix2pix_unet"] = "pix2pix_unet"
    width: PositiveInt = 64
    downs: int | None = Field(default=None, ge=2)
    norm: ImageNorm = "batch"
    dropout: float = Field(default=0.5, ge=0.0, lt=1.0)
    dropout_blocks: int = Field(default=3, ge=0)

    def build(self, source: ImageSpec, target: ImageSpec) -> "Pix2PixUNet":
        """Build the network from `source` images to `target` images.

        Raises:
            ValueError: the sizes differ, or cannot be halved so often.
        """
        return Pix2PixUNet(self, source, target)


class Pix2PixUNet(Translator):
    """Encoder and decoder of equally many blocks; each block of the decoder also sees what the encoder made there."""

    kind = "pix2pix_unet"

    def __init__(self, config: Pix2PixUNetConfig, source: ImageSpec, target: ImageSpec) -> None:
        super().__init__()
        check_same_size(self.kind, source, target)
        count = _halvings(source) if config.downs is None else config.downs
        self.input, self.output, self.multiple = source, target, 2**count
        self.check_size(*source.shape[1:])
        widths = [config.width * min(2**level, 8) for level in range(count)]
        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()  # both from the image inwards
        for level, width in enumerate(widths):
            outermost, innermost = level == 0, level == count - 1
            self.encoder.append(
                EncoderBlock(
                    source.channels if outermost else widths[level - 1],
                    width,
                    norm="none" if outermost or innermost else config.norm,
                    bias=bias_before(config.norm),
                    activation=not outermost,
                )
            )
        for level in range(1, count):
            self.decoder.append(
                DecoderBlock(
                    widths[level] * (1 if level == count - 1 else 2),
                    widths[level - 1],
                    norm=config.norm,
                    dropout=DrawnDropout(
                        config.dropout if count - 1 - level < config.dropout_blocks else 0.0, f"dropout/{level}"
                    ),
                )
            )
        self.to_image = TransposedConv2d(2 * widths[0], target.channels, 4, padding=1)

    def forward(self, image: Tensor, draws: Draws | None = None) -> Tensor:
        """See `Translator.forward`; the outputs are in [-1, 1]."""
        self.check_size(*image.shape[2:])
        levels, x = [], channels_last(image)
        for encoder in self.encoder:
            x = encoder(x)
            levels.append(x)
        x = levels.pop()
        for decoder in reversed(self.decoder):
            x = torch.cat([levels.pop(), decoder(x, draws)], dim=1)
        return torch.tanh(self.to_image(F.relu(x)).float())

    def stages(self) -> Sequence[nn.Module]:
        """See `Translator.stages`."""
        return [*self.encoder, *reversed(self.decoder)]


class EncoderBlock(nn.Module):
    """Leaky ReLU, 4x4 convolution that halves the resolution, normalisation.

    Args:
        channels: input channels.
        out_channels: output channels.
        norm: after the convolution.
        bias: of the convolution.
        activation: False for the block that sees the image.
    """

    def __init__(self, channels: int, out_channels: int, *, norm: ImageNorm, bias: bool, activation: bool) -> None:
        super().__init__()
        self.activation = activation
        self.conv = SpectralConv2d(
            channels, out_channels, 4, stride=2, padding=1, bias=bias, idle_bias=norm == "instance", style=_STYLE
        )
        self.norm = image_norm(norm, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, channels, H, W] to [N, out_channels, H / 2, W / 2]."""
        x = self.conv(F.leaky_relu(x, 0.2) if self.activation else x)
        out: Tensor = self.norm(x)
        return out


class DecoderBlock(nn.Module):
    """ReLU, 4x4 transposed convolution that doubles the resolution, normalisation, dropout."""

    def __init__(self, channels: int, out_channels: int, *, norm: ImageNorm, dropout: DrawnDropout) -> None:
        super().__init__()
        self.conv = TransposedConv2d(
            channels, out_channels, 4, padding=1, bias=bias_before(norm), idle_bias=norm == "instance"
        )
        self.norm = image_norm(norm, out_channels)
        self.dropout = dropout

    def forward(self, x: Tensor, draws: Draws | None) -> Tensor:
        """Map [N, channels, H, W] to [N, out_channels, 2 * H, 2 * W]."""
        out: Tensor = self.dropout(self.norm(self.conv(F.relu(x))), draws)
        return out


def _halvings(image: ImageSpec) -> int:
    """Return how often both sides can be halved, at least 2 and at most 8."""
    _, height, width = image.shape
    count = 0
    while count < _MOST_DOWNS and height % 2 ** (count + 1) == 0 and width % 2 ** (count + 1) == 0:
        count += 1
    return max(count, 2)
