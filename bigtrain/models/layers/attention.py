"""Self-attention over an image's positions (Zhang et al. 2019, SAGAN), in BigGAN's layout."""

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
