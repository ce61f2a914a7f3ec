"""Bias, activation, gain and clamp in one place: the pointwise tail of every StyleGAN layer."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bigtrain.ops.twins import use_reference

ACTIVATION_GAIN = {"linear": 1.0, "lrelu": math.sqrt(2.0), "relu": math.sqrt(2.0)}
"""The gain that keeps unit variance through each activation (Karras et al. 2020)."""


def bias_act(
    x: Tensor, bias: Tensor | None = None, *, act: str = "linear", gain: float = 1.0, clamp: float | None = None
) -> Tensor:
    """Compute `clamp(act(x + bias) * activation_gain * gain)`.

    Args:
        x: activations, channels on axis 1, shape [N, C, ...].
        bias: shape [C], or None.
        act: `linear`, `relu`, or `lrelu` (slope 0.2).
        gain: factor on top of the activation's own (ACTIVATION_GAIN).
        clamp: bound on the absolute value of the result, scaled by `gain`; None for no bound.

    Returns:
        Same shape and dtype as `x`.
    """
    if act not in ACTIVATION_GAIN:
        raise ValueError(f"unknown activation {act!r}: choose one of {sorted(ACTIVATION_GAIN)}")
    if bias is not None:
        x = x + bias.to(x.dtype).reshape(1, -1, *[1] * (x.ndim - 2))
    x = activate(x, act)
    total = ACTIVATION_GAIN[act] * gain
    if total != 1.0:
        x = x * total
    return x if clamp is None else x.clamp(-clamp * gain, clamp * gain)


def activate(x: Tensor, act: str) -> Tensor:
    """Apply `linear`, `relu` or `lrelu` (slope 0.2) alone.

    They are homogeneous: a gain behind them may as well stand before them, in a weight, where it costs nothing.
    """
    if act == "lrelu":
        return leaky_relu(x, 0.2)
    return F.relu(x) if act == "relu" else x


def leaky_relu(x: Tensor, slope: float) -> Tensor:
    """Compute max(x, slope * x); differentiable to any order.

    Of PyTorch's own it differs in two ways. What it keeps for the backward is its result, which the next layer keeps
    anyway, and not its input. And its second derivative is nothing at all where PyTorch's is an image of zeros, which
    a gradient penalty would carry back through the whole network.

    Args:
        x: any shape and floating dtype.
        slope: of the negative half, between 0 and 1.
    """
    if use_reference() or not (torch.is_grad_enabled() and x.requires_grad) or torch.compiler.is_compiling():
        return F.leaky_relu(x, slope)
    result: Tensor = _LeakyReLU.apply(x, slope)
    return result


class _LeakyReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: float) -> Tensor:
        y = F.leaky_relu(x, slope)
        ctx.save_for_backward(y)
        ctx.slope = slope
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (y,) = ctx.saved_tensors
        return _TimesSlope.apply(grad, y.detach(), ctx.slope), None


class _TimesSlope(torch.autograd.Function):
    """The gradient: linear in the incoming one, piecewise constant in the result."""

    @staticmethod
    def forward(ctx: Any, grad: Tensor, y: Tensor, slope: float) -> Tensor:
        ctx.save_for_backward(y)
        ctx.slope = slope
        slopes: Tensor = torch.ops.aten.leaky_relu_backward(grad, y, slope, True)
        return slopes

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (y,) = ctx.saved_tensors
        return _TimesSlope.apply(grad, y, ctx.slope), None, None
