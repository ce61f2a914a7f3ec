"""A nonlinearity without aliases: up-sample, leaky ReLU, clamp, down-sample (Karras et al. 2021, section 3.1)."""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from bigtrain.ops.resampling import Resampling
from bigtrain.ops.twins import use_reference

SLOPE = 0.2

_CACHE = 2**22
"""Bytes at the temporary sampling rate that a core computes with at a time."""
_LANES = 16
"""Channels of a block are a multiple of it: a line of the cache."""


def filtered_nonlinearity(x: Tensor, rise: Resampling, fall: Resampling, *, clamp: float | None = None) -> Tensor:
    """Compute `fall(clamp(leaky_relu(rise(x))))`; differentiable to any order.

    The gain that keeps unit variance through the leaky ReLU belongs into `rise`, where it costs nothing.

    What lies between the two, four or sixteen times as large as the input, is computed again in the backward pass.

    Args:
        x: activations with their bias, shape [N, C, *rise.size].
        rise: to the temporary sampling rate.
        fall: to the sampling rate of the output.
        clamp: bound on the absolute value at the temporary sampling rate, or None.

    Returns:
        Shape [N, C, *fall.out], in the dtype of `x`.
    """
    if use_reference():
        return filtered_nonlinearity_reference(x, rise, fall, clamp=clamp)
    result: Tensor = _FilteredNonlinearity.apply(x, rise, fall, clamp or math.inf)
    return result


def filtered_nonlinearity_reference(
    x: Tensor, rise: Resampling, fall: Resampling, *, clamp: float | None = None
) -> Tensor:
    """Compute the same as `filtered_nonlinearity`, step by step as the definition reads."""
    x = F.leaky_relu(rise.apply_plainly(x), SLOPE)
    if clamp is not None:
        x = x.clamp(-clamp, clamp)
    return fall.apply_plainly(x)


class _FilteredNonlinearity(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, rise: Resampling, fall: Resampling, clamp: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.rise, ctx.fall, ctx.clamp = rise, fall, clamp

        def compute(x: Tensor) -> Tensor:
            between = F.leaky_relu_(rise.along(x), SLOPE)
            if clamp < math.inf:
                between.clamp_(-clamp, clamp)
            return fall.along(between)

        return _by_blocks(compute, rise, (fall.height.out, fall.width.out), x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        (x,) = ctx.saved_tensors
        return _Backward.apply(grad, x, ctx.rise, ctx.fall, ctx.clamp), None, None, None


class _Backward(torch.autograd.Function):
    """The gradient: linear in the incoming one, and piecewise constant in x."""

    @staticmethod
    def forward(ctx: Any, grad: Tensor, x: Tensor, rise: Resampling, fall: Resampling, clamp: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.rise, ctx.fall, ctx.clamp = rise, fall, clamp

        def compute(grad: Tensor, x: Tensor) -> Tensor:
            return rise.back(_times_slope(fall.back(grad), rise.along(x), clamp))

        return _by_blocks(compute, rise, (rise.height.size, rise.width.size), grad, x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
        (x,) = ctx.saved_tensors
        with torch.no_grad():
            between = ctx.rise.along(x)
        return ctx.fall(_times_slope(ctx.rise(grad), between, ctx.clamp)), None, None, None, None


def _by_blocks(compute: Callable[..., Tensor], rise: Resampling, out: tuple[int, int], *tensors: Tensor) -> Tensor:
    """Compute a map of each channel by itself; on a CPU few channels of one image at a time, which stay in its cache.

    Args:
        compute: maps tensors [N, C, ...] to one of shape [N, C, *out].
        rise: leads to the largest size on the way.
        out: height and width of the result.
        tensors: what it takes.
    """
    (first, *_), (batch, width, *_) = tensors, tensors[0].shape
    at_once = _CACHE * torch.get_num_threads() // (rise.height.out * rise.width.out * first.element_size())
    channels = max(at_once // _LANES * _LANES, _LANES)
    whole = first.device.type != "cpu" or torch.compiler.is_compiling() or isinstance(first, FakeTensor)
    if whole or batch * width <= channels:
        return compute(*tensors)
    result = torch.empty(
        (batch, width, *out), dtype=first.dtype, device=first.device, memory_format=torch.channels_last
    )
    for image in range(batch):
        for start in range(0, width, channels):
            block = (slice(image, image + 1), slice(start, start + channels))
            result[block] = compute(*(tensor[block] for tensor in tensors))
    return result


def _times_slope(grad: Tensor, between: Tensor, clamp: float) -> Tensor:
    """Multiply by the derivative of `clamp(leaky_relu(between))`, in one pass each."""
    grad = torch.ops.aten.leaky_relu_backward(grad, between, SLOPE, False)
    if clamp < math.inf:
        grad = torch.ops.aten.hardtanh_backward(grad, between, -clamp / SLOPE, clamp)
    return grad
