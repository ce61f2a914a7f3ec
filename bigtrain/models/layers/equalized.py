"""Layers with an equalised learning rate (Karras et al. 2018, ProGAN, section 4.1).

Weights are stored with unit variance and scaled by He's constant at each use, so that Adam moves every layer at the
same relative speed.
"""

import math

import torch
from torch import Tensor, nn

from bigtrain.ops.bias_act import ACTIVATION_GAIN, activate, bias_act
from bigtrain.ops.modulated_conv import conv2d_resampled
from bigtrain.ops.upfirdn import fir_filter


class EqualizedLinear(nn.Module):
    """Fully connected layer.

    Args:
        features: input size.
        out_features: output size.
        act: activation, see `ops.bias_act`.
        bias_init: initial value of the bias in use, whatever `lr_multiplier` is.
        lr_multiplier: speed of this layer's weights relative to the optimizer's learning rate.
    """

    def __init__(
        self,
        features: int,
        out_features: int,
        *,
        act: str = "linear",
        bias_init: float = 0.0,
        lr_multiplier: float = 1.0,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_features, features))
        self.bias = nn.Parameter(torch.empty(out_features))
        self.act, self.bias_init = act, bias_init
        self.weight_gain = lr_multiplier / math.sqrt(features)
        self.bias_gain = lr_multiplier
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights, and set the bias to its initial value."""
        nn.init.normal_(self.weight, std=1.0 / self.bias_gain)
        nn.init.constant_(self.bias, self.bias_init / self.bias_gain)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, features] to [N, out_features]."""
        x = nn.functional.linear(x, self.weight * self.weight_gain)
        return bias_act(x, self.bias * self.bias_gain, act=self.act)


class EqualizedConv2d(nn.Module):
    """Convolution with "same" padding, bias, activation, and resampling by two.

    Args:
        channels: input channels.
        out_channels: output channels.
        kernel_size: odd.
        act: activation, see `ops.bias_act`.
        bias: whether to add one.
        up: 1 or 2.
        down: 1 or 2.
        taps: low-pass filter of the resampling.
        clamp: bound on the output's absolute value, or None.
    """

    def __init__(
        self,
        channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        act: str = "linear",
        bias: bool = True,
        up: int = 1,
        down: int = 1,
        taps: tuple[float, ...] = (1, 3, 3, 1),
        clamp: float | None = None,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_channels, channels, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self.register_buffer("fir", torch.empty(len(taps), len(taps)), persistent=False)
        self.fir: Tensor
        self.taps, self.act, self.up, self.down, self.clamp = taps, act, up, down, clamp
        self.weight_gain = 1.0 / math.sqrt(channels * kernel_size**2)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights, clear the bias, compute the filter."""
        self.fir.copy_(fir_filter(self.taps))
        nn.init.normal_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor, gain: float = 1.0) -> Tensor:
        """Map [N, channels, H, W] to [N, out_channels, H * up / down, W * up / down]."""
        # The gain behind the activation stands in weight and bias, which are smaller than images.
        total = ACTIVATION_GAIN[self.act] * gain
        bias = None if self.bias is None else self.bias * total
        weight = self.weight * (self.weight_gain * total)
        x = activate(conv2d_resampled(x, weight, fir=self.fir, up=self.up, down=self.down, bias=bias), self.act)
        return x if self.clamp is None else x.clamp(-self.clamp * gain, self.clamp * gain)
