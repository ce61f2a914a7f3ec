"""Transposed convolution that doubles the resolution."""

from torch import nn

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
    ) -> None:
        super().__init__(channels, out_channels, kernel_size, 2, padding, output_padding, bias=bias)

    def reset_parameters(self) -> None:
        """Fill weight and bias anew."""
        _STYLE.initialise(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)
