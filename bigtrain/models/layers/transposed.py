"""Transposed convolution that doubles the resolution."""

import torch.nn.functional as F
from torch import Tensor, nn

from bigtrain.models.layers.spectral import WeightStyle

_STYLE = WeightStyle("normal", spectral=False)


class TransposedConv2d(nn.ConvTranspose2d):
    """Transposed convolution of stride 2; weights start normal with deviation 0.02 (Radford et al. 2016), biases at 0.

    Args:
        channels: input channels.
        out_channels: output channels.
        kernel_size: height and width.
        padding: samples cut off each side.
        output_padding: samples added at the right and the bottom.
        bias: whether to add one.
        idle_bias: see `SpectralConv2d`.
    """

    def __init__(
        self,
        channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        padding: int,
        output_padding: int = 0,
        bias: bool = True,
        idle_bias: bool = False,
    ) -> None:
        self.idle_bias, self.cut = idle_bias, padding
        super().__init__(channels, out_channels, kernel_size, 2, padding, output_padding, bias=bias)

    def reset_parameters(self) -> None:
        """Fill weight and bias anew."""
        _STYLE.initialise(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Map [N, channels, H, W] to [N, out_channels, H', W']."""
        bias = 0.0 * self.bias if self.bias is not None and self.idle_bias else self.bias
        return F.conv_transpose2d(x, self.weight, bias, self.stride, self.cut, self.output_padding)
