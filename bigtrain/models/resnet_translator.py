"""CycleGAN's generator: convolutions down, residual blocks, convolutions up (Johnson et al. 2016; Zhu et al. 2017)."""

from collections.abc import Callable, Sequence
from functools import partial
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
from bigtrain.models.translator import BaseTranslatorConfig, EncodingTranslator, check_same_size
from bigtrain.ops.layout import channels_last
from bigtrain.ops.padding import PaddingMode, pad2d

_STYLE = WeightStyle("normal", spectral=False)


class ResNetTranslatorConfig(BaseTranslatorConfig):
    """The network's size and shape.

    Attributes:
        width: channels at full resolution; they double at each halving.
        blocks: number of residual blocks at the lowest resolution; null for 6 below 256 pixels and 9 otherwise, as in
            the paper.
        downs: how often the resolution is halved.
        norm: normalisation after each convolution but the last.
        padding: padding of the residual blocks' convolutions; the 7x7 convolutions at both ends always use reflection.
        dropout: dropout probability inside the residual blocks.
        dilation: of the first convolution of each residual block (2 in Nazeri et al. 2019).
    """

    kind: Literal["resnet_translator"] = "resnet_translator"
    width: PositiveInt = 64
    blocks: PositiveInt | None = None
    downs: PositiveInt = 2
    norm: ImageNorm = "instance"
    padding: PaddingMode = "reflect"
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    dilation: PositiveInt = 1

    def build(self, source: ImageSpec, target: ImageSpec) -> "ResNetTranslator":
        """Build the network from `source` images to `target` images.

        Raises:
            ValueError: the sizes differ, or cannot be halved so often.
        """
        return ResNetTranslator(self, source, target)


class ResNetTranslator(EncodingTranslator):
    """7x7 convolution, halvings, residual blocks, doublings, 7x7 convolution."""

    kind = "resnet_translator"

    def __init__(self, config: ResNetTranslatorConfig, source: ImageSpec, target: ImageSpec) -> None:
        super().__init__()
        check_same_size(self.kind, source, target)
        self.input, self.output, self.multiple = source, target, 2**config.downs
        self.check_size(*source.shape[1:])
        smallest = min(source.shape[1:]) >> config.downs
        if smallest <= config.dilation:
            raise ValueError(
                f"{self.kind}: after {config.downs} halvings the image is too small for reflection padding: use "
                f"fewer downs"
            )
        blocks = config.blocks or (9 if max(source.shape[1:]) >= 256 else 6)
        bias, idle = bias_before(config.norm), config.norm == "instance"
        width = config.width
        first = PaddedConv2d(source.channels, width, 7, padding="reflect", bias=bias, idle_bias=idle)
        self.encoder = nn.ModuleList([nn.Sequential(first, image_norm(config.norm, width), nn.ReLU())])
        for _ in range(config.downs):
            halving = SpectralConv2d(width, 2 * width, 3, stride=2, padding=1, bias=bias, idle_bias=idle, style=_STYLE)
            self.encoder.append(nn.Sequential(halving, image_norm(config.norm, 2 * width), nn.ReLU()))
            width *= 2
        self.blocks = nn.ModuleList(
            ResidualBlock(
                width,
                norm=config.norm,
                padding=config.padding,
                dropout=DrawnDropout(config.dropout, f"dropout/{index}"),
                dilation=config.dilation,
            )
            for index in range(blocks)
        )
        widths = (config.width * 2**index for index in range(config.downs + 1))
        self.encoder_widths = (source.channels, *widths, *[width] * blocks)
        self.decoder = nn.ModuleList()
        for _ in range(config.downs):
            doubling = TransposedConv2d(width, width // 2, 3, padding=1, output_padding=1, bias=bias, idle_bias=idle)
            self.decoder.append(nn.Sequential(doubling, image_norm(config.norm, width // 2), nn.ReLU()))
            width //= 2
        self.to_image = PaddedConv2d(width, target.channels, 7, padding="reflect", bias=True)

    def forward(self, image: Tensor, draws: Draws | None = None) -> Tensor:
        """See `Translator.forward`; the outputs are in [-1, 1]."""
        self.check_size(*image.shape[2:])
        x = channels_last(image)
        for encoder in self.encoder:
            x = encoder(x)
        for block in self.blocks:
            x = block(x, draws)
        for decoder in self.decoder:
            x = decoder(x)
        return torch.tanh(self.to_image(x).float())

    def encode(self, image: Tensor, layers: Sequence[int]) -> list[Tensor]:
        """See `EncodingTranslator.encode`: the image, then the activations after each convolution and each block."""
        self.check_size(*image.shape[2:])
        stages: list[Callable[[Tensor], Tensor]] = [*self.encoder]
        stages += [partial(block, draws=None) for block in self.blocks]
        found = [channels_last(image)]
        for stage in stages[: max(layers)]:
            found.append(stage(found[-1]))
        return [found[layer] for layer in layers]

    def stages(self) -> Sequence[nn.Module]:
        """See `Translator.stages`."""
        return [*self.encoder, *self.blocks, *self.decoder]


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with normalisation, a ReLU and dropout between, added to the input."""

    def __init__(
        self, channels: int, *, norm: ImageNorm, padding: PaddingMode, dropout: DrawnDropout, dilation: int = 1
    ) -> None:
        super().__init__()
        bias, idle = bias_before(norm), norm == "instance"
        self.conv1 = PaddedConv2d(channels, channels, 3, padding=padding, bias=bias, idle_bias=idle, dilation=dilation)
        self.norm1 = image_norm(norm, channels)
        self.dropout = dropout
        self.conv2 = PaddedConv2d(channels, channels, 3, padding=padding, bias=bias, idle_bias=idle)
        self.norm2 = image_norm(norm, channels)

    def forward(self, x: Tensor, draws: Draws | None) -> Tensor:
        """Map [N, C, H, W] to the same shape."""
        found = self.dropout(F.relu(self.norm1(self.conv1(x))), draws)
        out: Tensor = x + self.norm2(self.conv2(found))
        return out


class PaddedConv2d(SpectralConv2d):
    """Convolution that keeps the size, with a choice of padding.

    Args:
        channels: input channels.
        out_channels: output channels.
        kernel_size: height and width, odd.
        padding: see PaddingMode.
        bias: whether to add one.
        idle_bias: see `SpectralConv2d`.
        dilation: likewise.
    """

    def __init__(
        self,
        channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        padding: PaddingMode,
        bias: bool,
        idle_bias: bool = False,
        dilation: int = 1,
    ) -> None:
        around = dilation * (kernel_size // 2)
        inside = around if padding == "zero" else 0
        super().__init__(
            channels,
            out_channels,
            kernel_size,
            padding=inside,
            dilation=dilation,
            bias=bias,
            idle_bias=idle_bias,
            style=_STYLE,
        )
        self.around, self.mode = around - inside, padding

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, channels, H, W] to [N, out_channels, H, W]."""
        return super().forward(pad2d(x, self.around, self.mode) if self.around else x)
