"""Discriminators of clips [T, C, H, W]: three-dimensional convolutions over time, height and width."""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from bigtrain.models.base import ArraySpec, ImageSpec
from bigtrain.models.layers.conditional_batch_norm import BatchNorm
from bigtrain.models.layers.layer_norm import ChannelLayerNorm
from bigtrain.models.layers.projection_discriminator import ProjectionDiscriminator
from bigtrain.models.layers.spectral import WeightStyle
from bigtrain.ops.layout import channels_last

_BOTTOM = 4
"""Height and width of the smallest feature map, at least; below twice that."""

_STYLE = WeightStyle("normal", spectral=False)

Norm = Literal["batch", "layer", "none"]


class ClipDiscriminator(ProjectionDiscriminator):
    """Clip -> three-dimensional convolutions with leaky ReLU that halve height and width, and time as it can -> logit.

    Args:
        clip: what it judges, [T, C, H, W].
        width: channels after the first layer; they double, up to eight times that.
        norm: normalisation after each layer but the first.
    """

    def __init__(self, clip: ArraySpec, width: int, norm: Norm) -> None:
        frames, channels, *sides = clip.shape
        levels = int(math.log2(max(min(sides) // _BOTTOM, 1)))
        if not levels or any(side % 2**levels for side in sides):
            raise ValueError(
                f"frames are halved down to 4 to 7 pixels, but {sides[0]}x{sides[1]} cannot be halved so often"
            )
        blocks = []
        for level in range(levels):
            halves = frames >= _BOTTOM and frames % 2 == 0
            wider = width * min(2**level, 8)
            convolution = ClipConvolution(channels, wider, halves=halves)
            blocks.append(nn.Sequential(convolution, _normalisation(norm if level else "none", wider)))
            channels, frames = wider, frames // 2 if halves else frames
        super().__init__(clip, blocks, channels * frames * math.prod(side >> levels for side in sides), _STYLE)

    def features(self, image: Tensor, label: Tensor) -> list[Tensor]:
        """See Discriminator; `image` has shape [N, T, C, H, W], the activations [N, C, T, H, W]."""
        return super().features(channels_last(image.transpose(1, 2)), label)


class ClipBatchNorm(BatchNorm):
    """Batch normalisation of [N, C, T, H, W]."""

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, T, H, W] to the same shape."""
        normalised = self.normalise(x.flatten(2, 3)).reshape(x.shape)
        gain, bias = (value.to(x.dtype).reshape(1, -1, 1, 1, 1) for value in (self.gain, self.bias))
        return torch.addcmul(bias, normalised, gain)


class ClipConvolution(nn.Conv3d):
    """4x4 pixels with a stride of 2; in time 4 frames with a stride of 2, or 3 with a stride of 1."""

    def __init__(self, channels: int, out_channels: int, *, halves: bool) -> None:
        frames, stride = (4, 2) if halves else (3, 1)
        super().__init__(channels, out_channels, (frames, 4, 4), (stride, 2, 2), padding=1)

    def reset_parameters(self) -> None:
        """Fill weight and bias anew."""
        _STYLE.initialise(self.weight)
        assert self.bias is not None
        nn.init.zeros_(self.bias)


def _normalisation(kind: Norm, channels: int) -> nn.Module:
    if kind == "batch":
        return ClipBatchNorm(channels)
    return ChannelLayerNorm(channels) if kind == "layer" else nn.Identity()


def frame_of(clip: ArraySpec, family: str) -> ImageSpec:
    """Return what a frame of a clip is to the networks of images; it has no class.

    Args:
        clip: the clip.
        family: of the networks, for messages.

    Raises:
        ValueError: it is no clip of 2 frames or more.
    """
    if len(clip.shape) != 4:
        raise ValueError(f"{family} works on clips [T, C, H, W], but the field has the shape {list(clip.shape)}")
    frames, channels, height, width = clip.shape
    if frames < 2:
        raise ValueError(f"{family} works on clips of 2 frames or more, but the field has 1")
    return ImageSpec(height, channels, width=None if width == height else width)
