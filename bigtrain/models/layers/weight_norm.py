"""Convolutions whose weights are split into direction and length (Salimans & Kingma 2016)."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bigtrain.ops.spectral_norm import stored_spectral_norm


class WeightNormConv(nn.Module):
    """A convolution with the weight `weight_g * weight_v / |weight_v|`, one length for each row of the weight.

    Args:
        channels: input channels.
        out_channels: output channels.
        kernel: one size for each dimension: one for sounds, two for images.
        stride: of the positions, in each dimension.
        padding: zeros on each side, in each dimension.
        dilation: distance of the kernel's places.
        groups: of channels that do not see each other.
        transposed: upsample by the stride instead; of sounds alone.
    """

    def __init__(
        self,
        channels: int,
        out_channels: int,
        kernel: Sequence[int],
        *,
        stride: Sequence[int] = (1,),
        padding: Sequence[int] = (0,),
        dilation: int = 1,
        groups: int = 1,
        transposed: bool = False,
    ) -> None:
        super().__init__()
        rows, columns = (channels, out_channels) if transposed else (out_channels, channels)
        self.weight_v = nn.Parameter(torch.empty(rows, columns // groups, *kernel))
        self.weight_g = nn.Parameter(torch.empty(rows, *(1 for _ in range(self.weight_v.ndim - 1))))
        self.bias = nn.Parameter(torch.empty(out_channels))
        self.stride, self.padding, self.dilation = tuple(stride), tuple(padding), dilation
        self.groups, self.transposed = groups, transposed
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Fill the parameters as PyTorch does those of a convolution; the lengths are those of the directions."""
        nn.init.kaiming_uniform_(self.weight_v, a=math.sqrt(5.0))
        bound = 1 / math.sqrt(self.weight_v[0].numel())
        nn.init.uniform_(self.bias, -bound, bound)
        self.weight_g.copy_(self._lengths())

    def _lengths(self) -> Tensor:
        lengths: Tensor = torch.linalg.vector_norm(self.weight_v, dim=tuple(range(1, self.weight_v.ndim)), keepdim=True)
        return lengths

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, channels, …] to [N, out_channels, …]."""
        weight = self.weight_v * (self.weight_g / self._lengths())
        if self.transposed:
            return F.conv_transpose1d(x, weight, self.bias, self.stride, self.padding)
        convolve = F.conv1d if weight.ndim == 3 else F.conv2d
        return convolve(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class StoredSpectralConv1d(nn.Module):
    """A convolution of sounds with spectral normalisation; see `StoredSpectralConv2d`.

    Args:
        channels: input channels.
        out_channels: output channels.
        kernel: its size.
        stride: of the positions.
        padding: zeros on each side.
        groups: of channels that do not see each other.
    """

    u: Tensor
    v: Tensor
    moves_in_forward = True

    def __init__(
        self, channels: int, out_channels: int, kernel: int, *, stride: int = 1, padding: int = 0, groups: int = 1
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_channels, channels // groups, kernel))
        self.bias = nn.Parameter(torch.empty(out_channels))
        self.register_buffer("u", torch.empty(out_channels))
        self.register_buffer("v", torch.empty(channels // groups * kernel))
        self.stride, self.padding, self.groups = stride, padding, groups
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Fill the parameters as PyTorch does those of a convolution, and the vectors anew."""
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5.0))
        bound = 1 / math.sqrt(self.weight[0].numel())
        nn.init.uniform_(self.bias, -bound, bound)
        for vector in (self.u, self.v):
            vector.copy_(F.normalize(vector.normal_(), dim=0))

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, channels, L] to [N, out_channels, L / stride]."""
        weight = stored_spectral_norm(self.weight, self.u, self.v, update=self.training)
        return F.conv1d(x, weight, self.bias, self.stride, self.padding, groups=self.groups)
