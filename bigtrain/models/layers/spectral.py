"""Layers with spectrally normalised weights (Miyato et al. 2018).

Each layer keeps the left singular vector `u0` and the last singular value `sv0` as buffers, named as in the published
BigGAN checkpoints.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bigtrain.ops.convolution import conv2d
from bigtrain.ops.spectral_norm import spectral_norm, stored_spectral_norm

Initialisation = Literal["orthogonal", "normal", "xavier"]
"""Orthogonal (Saxe et al. 2014), normal with deviation 0.02 (Radford et al. 2016), uniform (Glorot & Bengio 2010)."""


@dataclass(frozen=True)
class WeightStyle:
    """What the layers of one network have in common.

    Attributes:
        init: how the weights start.
        spectral: divide each weight by its largest singular value; False for plain layers.
        iterations: steps of power iteration a forward.
    """

    init: Initialisation = "orthogonal"
    spectral: bool = True
    iterations: int = 1

    def initialise(self, weight: Tensor) -> None:
        """Fill a weight in place."""
        if self.init == "orthogonal":
            nn.init.orthogonal_(weight)
        elif self.init == "normal":
            nn.init.normal_(weight, std=0.02)
        else:
            nn.init.xavier_uniform_(weight)


class _Normalised(nn.Module):
    """A weight, perhaps a bias, and the state of the power iteration."""

    weight: nn.Parameter
    u0: Tensor
    sv0: Tensor

    def __init__(self, *shape: int, style: WeightStyle, bias: bool = False) -> None:
        super().__init__()
        self.style = style
        self.changes_in_forward = style.spectral
        self.weight = nn.Parameter(torch.empty(*shape))
        self.bias = nn.Parameter(torch.empty(shape[0])) if bias else None
        if style.spectral:
            self.register_buffer("u0", torch.empty(1, shape[0]))
            self.register_buffer("sv0", torch.empty(1))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Fill weight, bias and buffers anew."""
        self.style.initialise(self.weight)
        if self.bias is not None:
            self.bias.zero_()
        if self.style.spectral:
            self.u0.normal_()
            self.sv0.fill_(1.0)

    def normalised_weight(self) -> Tensor:
        if not self.style.spectral:
            return self.weight
        weight, sigma = spectral_norm(self.weight, self.u0, update=self.training, iterations=self.style.iterations)
        if self.training:
            self.sv0.copy_(sigma)
        return weight


class SpectralConv2d(_Normalised):
    """Convolution with "same" padding by default.

    Args:
        channels: input channels.
        out_channels: output channels.
        kernel_size: height and width.
        stride: of the positions.
        padding: zeros on each side; None for half of the kernel.
        dilation: distance between neighbouring values of the kernel.
        bias: whether to add one; it starts at 0.
        idle_bias: an instance normalisation follows, which undoes the bias. It is left out, and its gradient is exactly
            zero; that of the sum would be rounding errors, which Adam turns into steps that depend on the ranks.
        style: of the weight.
    """

    def __init__(
        self,
        channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: int | None = None,
        dilation: int = 1,
        bias: bool = True,
        idle_bias: bool = False,
        style: WeightStyle = WeightStyle(),
    ) -> None:
        super().__init__(out_channels, channels, kernel_size, kernel_size, bias=bias, style=style)
        self.stride, self.dilation, self.idle_bias = stride, dilation, idle_bias
        self.padding = kernel_size // 2 if padding is None else padding

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, channels, H, W] to [N, out_channels, H', W'], see `conv2d`; H' = H and W' = W with the defaults."""
        bias = 0.0 * self.bias if self.bias is not None and self.idle_bias else self.bias
        weight = self.normalised_weight()
        return conv2d(x, weight, bias, stride=self.stride, padding=self.padding, dilation=self.dilation)


class SpectralConv3d(_Normalised):
    """Three-dimensional convolution with "same" padding and a bias, which starts at 0."""

    def __init__(
        self,
        channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        style: WeightStyle = WeightStyle(),
    ) -> None:
        super().__init__(out_channels, channels, *3 * (kernel_size,), bias=True, style=style)
        self.padding = kernel_size // 2

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, channels, D, H, W] to [N, out_channels, D, H, W]."""
        return F.conv3d(x, self.normalised_weight(), self.bias, padding=self.padding)


class SpectralLinear(_Normalised):
    """Fully connected layer."""

    def __init__(
        self,
        features: int,
        out_features: int,
        *,
        bias: bool = True,
        style: WeightStyle = WeightStyle(),
    ) -> None:
        super().__init__(out_features, features, bias=bias, style=style)

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., features] to [..., out_features]."""
        return F.linear(x, self.normalised_weight(), self.bias)


class SpectralEmbedding(_Normalised):
    """One vector a class; `weights` [N, classes] mixes them."""

    def __init__(
        self,
        classes: int,
        features: int,
        *,
        style: WeightStyle = WeightStyle(),
    ) -> None:
        super().__init__(classes, features, style=style)

    def forward(self, weights: Tensor) -> Tensor:
        """Map class weights [N, classes] to [N, features]."""
        return weights @ self.normalised_weight()


class StoredSpectralConv2d(nn.Module):
    """Convolution whose spectral normalisation keeps both singular vectors, and iterates in training alone.

    In evaluation the singular value is `u W v` of the vectors as they are, where `SpectralConv2d` iterates once more.

    Args:
        channels: input channels.
        out_channels: output channels.
        kernel_size: height and width.
        stride: 1 or 2.
        padding: zeros at each side.
    """

    u: Tensor
    v: Tensor
    changes_in_forward = True

    def __init__(self, channels: int, out_channels: int, kernel_size: int, *, stride: int = 1, padding: int = 1):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_channels, channels, kernel_size, kernel_size))
        self.register_buffer("u", torch.empty(out_channels))
        self.register_buffer("v", torch.empty(channels * kernel_size**2))
        self.stride, self.padding = stride, padding
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Fill the weight (uniform, He et al. 2015 with a gain of sqrt(1/3)) and the vectors anew."""
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5.0))
        for vector in (self.u, self.v):
            vector.copy_(F.normalize(vector.normal_(), dim=0))

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, channels, H, W] to [N, out_channels, H / stride, W / stride]."""
        weight = stored_spectral_norm(self.weight, self.u, self.v, update=self.training)
        return conv2d(x, weight, stride=self.stride, padding=self.padding)
