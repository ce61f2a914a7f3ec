"""Inpainting by gated convolutions in two stages, with contextual attention (DeepFill v2; Yu et al. 2018 and 2019).

The input has one channel more than the output: it says where the image is known (1) and where it has a hole (-1), as
the derived field `holes` makes it. What is known is copied to the output.

The first stage learns through the second one, and from losses of its own if the task's `first_stage` has some.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from bigtrain.core.rng import Draws
from bigtrain.models.base import DataSpec, ImageSpec
from bigtrain.models.layers.holes import smoothly_filled, with_holes
from bigtrain.models.translator import BaseTwoStageConfig, TwoStageTranslator, check_same_size
from bigtrain.ops.convolution import conv2d
from bigtrain.ops.layout import channels_last
from bigtrain.ops.precision import outside_autocast

_GATED_GAIN = 2.0
"""Of the initial weights: a gate takes most of a layer's output away, and a dozen such layers would pass on nothing."""
_SHARPNESS = 10.0
"""Factor of the cosines before the softmax (Yu et al. 2018, section 4.1)."""


class GatedInpainterConfig(BaseTwoStageConfig):
    """The network's size and shape.

    Attributes:
        width: features at full resolution; they double at each halving. The paper's 48 are features and gates together.
        halvings: how often the resolution is halved; the paper's 2 leave small images few pixels.
        dilations: of the convolutions at the lowest resolution.
        refine: whether a second stage with contextual attention works on the output of the first one.
        smooth_start: whether holes are filled smoothly first, and each stage adds to what it is given. False as in the
            paper: the first stage sees black holes, and each stage makes its output anew.
    """

    kind: Literal["gated_inpainter"] = "gated_inpainter"
    width: int = Field(default=24, ge=2)
    halvings: int = Field(default=2, ge=1, le=4)
    dilations: tuple[PositiveInt, ...] = (2, 4, 8, 16)
    refine: bool = True
    smooth_start: bool = False

    def first_stage(self, source: Any, target: DataSpec) -> DataSpec:
        """See BaseTwoStageConfig: the image, filled coarsely."""
        if not self.refine:
            raise ValueError(
                "generator.refine is false: there is one stage, which the objective trains; leave first_stage out"
            )
        return target

    def build(self, source: ImageSpec, target: ImageSpec) -> "GatedInpainter":
        """Build the network from `source` images with a channel of what is known to `target` images.

        Raises:
            ValueError: the channels do not fit, or the sizes differ or are no multiples of 2 · 2^halvings.
        """
        return GatedInpainter(self, source, target)


class GatedInpainter(TwoStageTranslator):
    """A coarse stage fills the holes; a fine one works on the result, and looks for what is like it in the image."""

    kind = "gated_inpainter"
    fills_holes = True

    def __init__(self, config: GatedInpainterConfig, source: ImageSpec, target: ImageSpec) -> None:
        super().__init__()
        check_same_size(self.kind, source, target)
        if source.channels != target.channels + 1:
            raise ValueError(
                f"{self.kind} fills the holes of images of {target.channels} channels, and needs a further channel "
                f"that marks them: {target.channels + 1} channels, not {source.channels}; see the derived field "
                "'holes'"
            )
        self.input, self.output, self.multiple = source, target, 2 << config.halvings
        self.check_size(*source.shape[1:])
        self.smooth_start = config.smooth_start
        width, deepest = config.width, config.width << config.halvings

        def encoder() -> list[nn.Module]:
            return _encoder(source.channels, width, config.halvings)

        def decoder(channels: int) -> list[nn.Module]:
            return _decoder(channels, target.channels, width, config.halvings)

        self.coarse = nn.Sequential(*encoder(), *_dilated(deepest, config.dilations), *decoder(deepest))
        self.fine: nn.ModuleDict | None = None
        if config.refine:
            self.fine = nn.ModuleDict(
                {
                    "dilated": nn.Sequential(*encoder(), *_dilated(deepest, config.dilations)),
                    "matched": nn.Sequential(*encoder()),
                    "after": nn.Sequential(*(GatedConv2d(deepest, deepest) for _ in range(2))),
                    "decoder": nn.Sequential(*decoder(2 * deepest)),
                }
            )

    def both(self, image: Tensor, draws: Draws | None = None) -> tuple[Tensor, Tensor]:
        """See `TwoStageTranslator.both`; known pixels are the input's, the others are in [-1, 1].

        With `smooth_start` they may lie outside, by the size of what the stages add.
        """
        self.check_size(*image.shape[2:])
        picture, known, holes = with_holes(image)

        def drawn(stage: nn.Module, features: Tensor, start: Tensor) -> Tensor:
            made = torch.tanh(stage(features).float())
            return torch.where(holes, start + made if self.smooth_start else made, picture)

        start = smoothly_filled(picture, holes).to(image.dtype) if self.smooth_start else picture
        coarse = filled = drawn(self.coarse, channels_last(torch.cat([start, known], 1)), start)
        if self.fine is not None:
            again = channels_last(torch.cat([filled.to(image.dtype), known], 1))
            matched = contextual_attention(self.fine["matched"](again), holes)
            side_by_side = torch.cat([self.fine["dilated"](again), self.fine["after"](matched)], 1)
            filled = drawn(self.fine["decoder"], side_by_side, filled)
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
        self.around = dilation * (kernel_size // 2)
        super().__init__(channels, 2 * out_channels, kernel_size, stride, self.around, dilation)

    def reset_parameters(self) -> None:
        """Fill weight and bias anew."""
        _fill(self, _GATED_GAIN)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, channels, H, W] to [N, out_channels, H / stride, W / stride]."""
        made = conv2d(x, self.weight, self.bias, stride=self.stride[0], padding=self.around, dilation=self.dilation[0])
        features, gate = made.chunk(2, 1)
        return F.elu(features) * torch.sigmoid(gate)


class ToImage(nn.Conv2d):
    """3x3 convolution without a gate; its first outputs are small."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__(channels, out_channels, 3, padding=1)

    def reset_parameters(self) -> None:
        """Fill weight and bias anew."""
        _fill(self, 0.2)


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


def _fill(layer: nn.Conv2d, gain: float) -> None:
    nn.init.normal_(layer.weight, std=gain / math.sqrt(layer.weight[0].numel()))
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)


def _encoder(channels: int, width: int, halvings: int) -> list[nn.Module]:
    """Return the layers to the lowest resolution, where there are 2^halvings · width features."""
    layers = [GatedConv2d(channels, width, 5)]
    for _ in range(halvings):
        layers += [GatedConv2d(width, 2 * width, stride=2), GatedConv2d(2 * width, 2 * width)]
        width *= 2
    return [*layers, GatedConv2d(width, width)]


def _dilated(width: int, dilations: Sequence[int]) -> list[nn.Module]:
    return [*(GatedConv2d(width, width, dilation=one) for one in dilations), GatedConv2d(width, width)]


def _decoder(channels: int, out_channels: int, width: int, halvings: int) -> list[nn.Module]:
    """Return the layers from the lowest resolution, where there are `channels` features, to the image."""
    layers: list[nn.Module] = [GatedConv2d(channels, width << halvings)]
    for level in reversed(range(halvings)):
        here = width << level
        layers += [nn.UpsamplingNearest2d(scale_factor=2), GatedConv2d(2 * here, here)]
        layers += [GatedConv2d(here, here if level else width // 2)]
    return [*layers, ToImage(width // 2, out_channels)]
