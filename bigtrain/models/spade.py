"""SPADE, or GauGAN: images from label maps (Park et al. 2019, section 3 and appendix A)."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import PositiveInt
from torch import Tensor, nn

from bigtrain.core.rng import Draws
from bigtrain.models.base import ImageSpec
from bigtrain.models.layers.conditional_batch_norm import BatchStatistics
from bigtrain.models.layers.normalisation import InstanceNorm
from bigtrain.models.layers.spectral import SpectralConv2d, WeightStyle
from bigtrain.models.translator import BaseTranslatorConfig, Translator, check_same_size
from bigtrain.ops.layout import channels_last

_STYLE = WeightStyle("xavier")
_PLAIN = WeightStyle("xavier", spectral=False)

PlainNorm = Literal["batch", "instance"]


class SPADEConfig(BaseTranslatorConfig):
    """The generator's size; the defaults are those of the paper for 256x256 pixels.

    Attributes:
        width: channels at full resolution; each lower resolution has twice as many, up to sixteen times this number.
        doublings: how often the resolution is doubled; 6 from 4x4 to 256x256 pixels.
        hidden: channels of the convolution that reads the map in each normalisation.
        norm: normalisation whose result the map scales and shifts: `batch` over the samples of all ranks, as in the
            paper, or `instance`, of each sample by itself.
    """

    kind: Literal["spade"] = "spade"
    width: PositiveInt = 64
    doublings: PositiveInt = 6
    hidden: PositiveInt = 128
    norm: PlainNorm = "batch"

    def build(self, source: ImageSpec, target: ImageSpec) -> "SPADEGenerator":
        """Build the network from maps with one channel per label to `target` images.

        Raises:
            ValueError: the sizes differ, or cannot be halved so often.
        """
        return SPADEGenerator(self, source, target)


class SPADEGenerator(Translator):
    """Residual blocks with doublings of the resolution between them; each block is given the map at its resolution.

    The first layer reads the map at the lowest resolution, as that of the paper's generator without a style encoder
    does, so that maps of any size are translated. The network has no noise.
    """

    kind = "spade"

    def __init__(self, config: SPADEConfig, source: ImageSpec, target: ImageSpec) -> None:
        super().__init__()
        check_same_size(self.kind, source, target)
        self.input, self.output, self.multiple = source, target, 2**config.doublings
        self.check_size(*source.shape[1:])
        widths = [config.width * min(2**level, 16) for level in range(config.doublings, -1, -1)]
        self.first = SpectralConv2d(source.channels, widths[0], 3, style=_PLAIN)
        self.blocks = nn.ModuleList(
            SPADEBlock(before, width, source.channels, config)
            for before, width in zip([widths[0], *widths], widths, strict=False)
        )
        self.to_image = SpectralConv2d(widths[-1], target.channels, 3, style=_PLAIN)

    def forward(self, image: Tensor, draws: Draws | None = None) -> Tensor:
        """See `Translator.forward`; the outputs are in [-1, 1]."""
        self.check_size(*image.shape[2:])
        levels = [channels_last(image)]
        for _ in self.blocks[1:]:
            levels.append(F.avg_pool2d(levels[-1], 2))
        x = self.first(levels[-1])
        for number, block in enumerate(self.blocks):
            x = F.interpolate(x, scale_factor=2, mode="nearest") if number else x
            x = block(x, levels.pop())
        return torch.tanh(self.to_image(F.leaky_relu(x, 0.2)).float())

    def stages(self) -> Sequence[nn.Module]:
        """See `Translator.stages`."""
        return list(self.blocks)


class SPADEBlock(nn.Module):
    """Two convolutions, each after a normalisation, are added to the input, or to its projection to other channels."""

    def __init__(self, channels: int, out_channels: int, labels: int, config: SPADEConfig) -> None:
        super().__init__()
        middle = min(channels, out_channels)
        self.norm1, self.norm2 = SPADE(channels, labels, config), SPADE(middle, labels, config)
        self.conv1 = SpectralConv2d(channels, middle, 3, style=_STYLE)
        self.conv2 = SpectralConv2d(middle, out_channels, 3, style=_STYLE)
        self.adapts = channels != out_channels
        if self.adapts:
            self.norm_skip = SPADE(channels, labels, config)
            self.conv_skip = SpectralConv2d(channels, out_channels, 1, bias=False, style=_STYLE)

    def forward(self, x: Tensor, label_map: Tensor) -> Tensor:
        """Map [N, channels, H, W] to [N, out_channels, H, W]; the map is [N, labels, H, W]."""
        skip = self.conv_skip(self.norm_skip(x, label_map)) if self.adapts else x
        x = self.conv1(F.leaky_relu(self.norm1(x, label_map), 0.2))
        out: Tensor = skip + self.conv2(F.leaky_relu(self.norm2(x, label_map), 0.2))
        return out


class SPADE(nn.Module):
    """Spatially adaptive normalisation: the gain and the bias of each pixel are computed from the map (equation 1)."""

    def __init__(self, channels: int, labels: int, config: SPADEConfig) -> None:
        super().__init__()
        self.norm = PlainBatchNorm(channels) if config.norm == "batch" else InstanceNorm(channels)
        self.shared = SpectralConv2d(labels, config.hidden, 3, style=_PLAIN)
        self.gain = SpectralConv2d(config.hidden, channels, 3, style=_PLAIN)
        self.bias = SpectralConv2d(config.hidden, channels, 3, style=_PLAIN)

    def forward(self, x: Tensor, label_map: Tensor) -> Tensor:
        """Map [N, channels, H, W] to the same shape."""
        read = F.relu(self.shared(label_map))
        normalised = self.norm(x)
        return torch.addcmul(normalised + self.bias(read), normalised, self.gain(read))


class PlainBatchNorm(BatchStatistics):
    """Batch normalisation without gain and bias."""

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to the same shape."""
        return self.normalise(x)
