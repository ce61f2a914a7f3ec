"""Layers with spectrally normalised weights (Miyato et al. 2018).

Each layer keeps the left singular vector `u0` and the last singular value `sv0` as buffers, named as in the published
BigGAN checkpoints.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bigtrain.ops.spectral_norm import spectral_norm


class _Normalised(nn.Module):
    """A weight, orthogonal at first (Saxe et al. 2014), and the state of its power iteration."""

    weight: nn.Parameter
    u0: Tensor
    sv0: Tensor

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(nn.init.orthogonal_(torch.empty(*shape)))
        self.register_buffer("u0", torch.randn(1, shape[0]))
        self.register_buffer("sv0", torch.ones(1))

    def normalised_weight(self) -> Tensor:
        weight, sigma = spectral_norm(self.weight, self.u0, update=self.training)
        if self.training:
            self.sv0.copy_(sigma)
        return weight


class SpectralConv2d(_Normalised):
    """Convolution with "same" padding."""

    def __init__(self, channels: int, out_channels: int, kernel_size: int, *, bias: bool = True) -> None:
        super().__init__(out_channels, channels, kernel_size, kernel_size)
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.padding = kernel_size // 2

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, channels, H, W] to [N, out_channels, H, W]."""
        return F.conv2d(x, self.normalised_weight(), self.bias, padding=self.padding)


class SpectralLinear(_Normalised):
    """Fully connected layer."""

    def __init__(self, features: int, out_features: int, *, bias: bool = True) -> None:
        super().__init__(out_features, features)
        self.bias = nn.Parameter(torch.zeros(out_features)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, features] to [N, out_features]."""
        return F.linear(x, self.normalised_weight(), self.bias)


class SpectralEmbedding(_Normalised):
    """One vector a class; `weights` [N, classes] mixes them."""

    def __init__(self, classes: int, features: int) -> None:
        super().__init__(classes, features)

    def forward(self, weights: Tensor) -> Tensor:
        """Map class weights [N, classes] to [N, features]."""
        return weights @ self.normalised_weight()
