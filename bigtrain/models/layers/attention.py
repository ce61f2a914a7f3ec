"""Self-attention over an image's positions (Zhang et al. 2019, SAGAN), in BigGAN's layout, and along a clip's axes."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bigtrain.models.layers.spectral import SpectralConv2d, WeightStyle
from bigtrain.ops.attention import attention


class SelfAttention(nn.Module):
    """x + gamma * attention(x), keys and values at half resolution; gamma starts at 0."""

    def __init__(
        self,
        channels: int,
        style: WeightStyle = WeightStyle(),  # noqa: B008 (frozen)
    ) -> None:
        super().__init__()
        if channels < 8:
            raise ValueError(
                f"attention needs 8 channels or more, because its queries have an eighth of them, not {channels}"
            )
        self.theta = SpectralConv2d(channels, channels // 8, 1, bias=False, style=style)
        self.phi = SpectralConv2d(channels, channels // 8, 1, bias=False, style=style)
        self.g = SpectralConv2d(channels, channels // 2, 1, bias=False, style=style)
        self.o = SpectralConv2d(channels // 2, channels, 1, bias=False, style=style)
        self.gamma = nn.Parameter(torch.empty(()))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start as the identity."""
        nn.init.zeros_(self.gamma)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to the same shape."""
        query, key, value = (
            part.flatten(2).mT[:, None]  # positions before channels, as the activations lie in memory; one head
            for part in (self.theta(x), F.max_pool2d(self.phi(x), 2), F.max_pool2d(self.g(x), 2))
        )
        mixed = attention(query, key, value, scale=1.0)[:, 0].mT.reshape(x.shape[0], -1, *x.shape[2:])
        out: Tensor = self.gamma * self.o(mixed) + x
        return out


class AxisAttention(SelfAttention):
    """x + gamma * attention(x) among the positions of a clip that differ in one axis only; gamma starts at 0.

    Args:
        channels: of the features.
        axis: 0 for the frames, 1 for the rows of a frame, 2 for its columns.
        style: of the weights.
    """

    def __init__(self, channels: int, axis: int, style: WeightStyle) -> None:
        super().__init__(channels, style)
        self.axis = axis

    def forward(self, x: Tensor, frames: int = 1) -> Tensor:
        """Map the frames of clips, [N * frames, C, H, W], to the same shape."""
        query, key, value = (self._lines(part, frames) for part in (self.theta(x), self.phi(x), self.g(x)))
        mixed = attention(query, key, value, scale=1.0)
        rest = [size for place, size in enumerate((frames, *x.shape[2:])) if place != self.axis]
        mixed = mixed.reshape(-1, *rest, *mixed.shape[2:]).movedim(3, 1 + self.axis)
        out: Tensor = self.gamma * self.o(mixed.flatten(0, 1).movedim(3, 1)) + x
        return out

    def _lines(self, x: Tensor, frames: int) -> Tensor:
        """Turn [N * frames, C, H, W] into the lines along the axis, [N * others, 1, length, C]."""
        pixels = x.movedim(1, 3)
        clip = pixels.reshape(-1, frames, *pixels.shape[1:])
        return clip.movedim(1 + self.axis, 3).flatten(0, 2)[:, None]


class SeparableAttention(nn.Module):
    """Attention along the columns, the rows and the frames of clips, one after the other (Clark et al. 2019, DVD-GAN).

    Full self-attention costs the square of a clip's positions; the three layers together cost the positions times the
    sum of the sides.

    Args:
        channels: of the features.
        style: of the weights.
    """

    def __init__(self, channels: int, style: WeightStyle) -> None:
        super().__init__()
        self.axes = nn.ModuleList(AxisAttention(channels, axis, style) for axis in (2, 1, 0))

    def forward(self, x: Tensor, frames: int) -> Tensor:
        """Map the frames of clips, [N * frames, C, H, W], to the same shape."""
        for layer in self.axes:
            x = layer(x, frames)
        return x
