"""Inpainting by gated convolutions in two stages, with contextual attention (DeepFill v2; Yu et al. 2018 and 2019).

The input has one channel more than the output: it says where the image is known (1) and where it has a hole (-1), as
the derived field `holes` makes it. What is known is copied to the output.

The first stage learns through the second one, and from losses of its own if the task's `first_stage` has some.
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from bigtrain.core.rng import Draws
from bigtrain.models.base import DataSpec, ImageSpec
from bigtrain.models.layers.holes import with_holes
from bigtrain.models.layers.spectral import WeightStyle
from bigtrain.models.translator import BaseTwoStageConfig, TwoStageTranslator, check_same_size
from bigtrain.ops.layout import channels_last
from bigtrain.ops.precision import outside_autocast

_STYLE = WeightStyle("xavier", spectral=False)
_SHARPNESS = 10.0
"""Factor of the cosines before the softmax (Yu et al. 2018, section 4.1)."""


class GatedInpainterConfig(BaseTwoStageConfig):
    """The network's size and shape.

    Attributes:
        width: features at full resolution; they double at each of the two halvings. The paper's 48 are features and
            gates together.
        dilations: of the convolutions at the lowest resolution.
        refine: whether a second stage with contextual attention works on the output of the first one.
    """

    kind: Literal["gated_inpainter"] = "gated_inpainter"
    width: int = Field(default=24, ge=2)
    dilations: tuple[PositiveInt, ...] = (2, 4, 8, 16)
    refine: bool = True

    def first_stage(self, source: Any, target: DataSpec) -> DataSpec:
        """See BaseTwoStageConfig: the image, filled coarsely."""
        if not self.refine:
            raise ValueError("generator.refine is false: there is one stage, which the objective trains")
        return target

    def build(self, source: ImageSpec, target: ImageSpec) -> "GatedInpainter":
        """Build the network from `source` images with a channel of what is known to `target` images.

        Raises:
            ValueError: the channels do not fit, or the sizes differ or are no multiples of 8.
        """
        return GatedInpainter(self, source, target)


class GatedInpainter(TwoStageTranslator):
    """A coarse stage fills the holes; a fine one works on the result, and looks for what is like it in the image."""

    kind = "gated_inpainter"
    fills_holes = True
    multiple = 8

    def __init__(self, config: GatedInpainterConfig, source: ImageSpec, target: ImageSpec) -> None:
        super().__init__()
        check_same_size(self.kind, source, target)
        if source.channels != target.channels + 1:
            raise ValueError(
                f"{self.kind} fills the holes of images of {target.channels} channels, and needs a further channel "
                f"that marks them: {target.channels + 1} channels, not {source.channels}; see the derived field "
                "'holes'"
            )
        self.input, self.output = source, target
        self.check_size(*source.shape[1:])
        width, channels = config.width, source.channels
        self.coarse = nn.Sequential(
            *_encoder(channels, width), *_dilated(width, config.dilations), *_decoder(4 * width, target.channels, width)
        )
        self.fine: nn.ModuleDict | None = None
        if config.refine:
            self.fine = nn.ModuleDict(
                {
                    "dilated": nn.Sequential(*_encoder(channels, width), *_dilated(width, config.dilations)),
                    "matched": nn.Sequential(*_encoder(channels, width)),
                    "after": nn.Sequential(*(GatedConv2d(4 * width, 4 * width) for _ in range(2))),
                    "decoder": nn.Sequential(*_decoder(8 * width, target.channels, width)),
                }
            )

    def both(self, image: Tensor, draws: Draws | None = None) -> tuple[Tensor, Tensor]:
        """See `TwoStageTranslator.both`; the outputs are in [-1, 1], and known pixels are the input's."""
        self.check_size(*image.shape[2:])
        seen = with_holes(image)
        picture, known, holes = seen
        coarse = filled = torch.where(holes, torch.tanh(self.coarse(channels_last(seen.image)).float()), picture)
        if self.fine is not None:
            again = channels_last(torch.cat([filled.to(image.dtype), known], 1))
            matched = contextual_attention(self.fine["matched"](again), holes)
            side_by_side = torch.cat([self.fine["dilated"](again), self.fine["after"](matched)], 1)
            filled = torch.where(holes, torch.tanh(self.fine["decoder"](side_by_side).float()), picture)
        return coarse.float(), filled.float()

    def stages(self) -> Sequence[nn.Module]:
        """See `Translator.stages`."""
        parts = [self.coarse] if self.fine is None else [self.coarse, *self.fine.values()]
        return [layer for part in parts for layer in part.children()]


class GatedConv2d(nn.Conv2d):
    """Convolution whose output is ELU(features) · sigmoid(gate): it learns where to trust what it sees.

    Args:
        channels: input channels.
        out_channels: output channels.
        kernel_size: height and width, odd.
        stride: of the positions.
        dilation: of the kernel.
    """

    def __init__(
        self, channels: int, out_channels: int, kernel_size: int = 3, *, stride: int = 1, dilation: int = 1
    ) -> None:
        around = dilation * (kernel_size // 2)
        super().__init__(channels, 2 * out_channels, kernel_size, stride, around, dilation)

    def reset_parameters(self) -> None:
        """Fill weight and bias anew."""
        _fill(self)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, channels, H, W] to [N, out_channels, H / stride, W / stride]."""
        features, gate = super().forward(x).chunk(2, 1)
        return F.elu(features) * torch.sigmoid(gate)


class ToImage(nn.Conv2d):
    """3x3 convolution without a gate."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__(channels, out_channels, 3, padding=1)

    def reset_parameters(self) -> None:
        """Fill weight and bias anew."""
        _fill(self)


def contextual_attention(features: Tensor, holes: Tensor) -> Tensor:
    """Rebuild features from patches of what is known, weighted by likeness (Yu et al. 2018, section 4).

    Likeness is the cosine of 3x3 patches at half of the resolution; what is put together are patches of 4x4, which
    overlap by a half, averaged where they do. Where an image has no known patch, all patches count.

    Args:
        features: shape [N, C, h, w], sides even.
        holes: bool, shape [N, 1, H, W], H and W multiples of h and w.

    Returns:
        Shape [N, C, h, w].
    """
    size = (features.shape[2], features.shape[3])
    half = (size[0] // 2, size[1] // 2)
    with outside_autocast(features.device.type):
        x = features.float()
        patches = F.unfold(F.avg_pool2d(x, 2), 3, padding=1).mT  # [N, places, C * 9]
        directions = F.normalize(patches, dim=-1)
        damaged = F.adaptive_max_pool2d(holes.float(), half).flatten(1)
        scores = _SHARPNESS * directions @ directions.mT - 1e4 * damaged[:, None]
        values = F.unfold(x, 4, padding=1, stride=2).mT  # [N, places, C * 16]
        rebuilt = F.fold((scores.softmax(-1) @ values).mT, size, 4, padding=1, stride=2)
        count = F.fold(torch.ones_like(values[:1]).mT, size, 4, padding=1, stride=2)
        return channels_last((rebuilt / count).to(features.dtype))


def _fill(layer: nn.Conv2d) -> None:
    _STYLE.initialise(layer.weight)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)


def _encoder(channels: int, width: int) -> list[nn.Module]:
    """Return the layers to a quarter of the resolution."""
    return [
        GatedConv2d(channels, width, 5),
        GatedConv2d(width, 2 * width, stride=2),
        GatedConv2d(2 * width, 2 * width),
        GatedConv2d(2 * width, 4 * width, stride=2),
        GatedConv2d(4 * width, 4 * width),
        GatedConv2d(4 * width, 4 * width),
    ]


def _dilated(width: int, dilations: Sequence[int]) -> list[nn.Module]:
    return [*(GatedConv2d(4 * width, 4 * width, dilation=one) for one in dilations), GatedConv2d(4 * width, 4 * width)]


def _decoder(channels: int, out_channels: int, width: int) -> list[nn.Module]:
    """Return the layers from a quarter of the resolution to the image."""
    return [
        GatedConv2d(channels, 4 * width),
        nn.UpsamplingNearest2d(scale_factor=2),
        GatedConv2d(4 * width, 2 * width),
        GatedConv2d(2 * width, 2 * width),
        nn.UpsamplingNearest2d(scale_factor=2),
        GatedConv2d(2 * width, width),
        GatedConv2d(width, width // 2),
        ToImage(width // 2, out_channels),
    ]
