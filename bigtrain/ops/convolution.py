"""Convolution whose derivatives of every order are convolutions too.

The gradient of a convolution by its image is the transposed convolution, by its weight a correlation of two images;
both are linear in what they take, so that their gradients are convolutions again. PyTorch knows this of the first
gradient. Differentiating it once more, as a gradient penalty does, PyTorch finds the weight's gradient by a
convolution whose kernel is as large as the image, and by a loop over the groups: many times as slow.

On a CPU large images with 3x3 taps are convolved by Winograd's algorithm, in every derivative.
"""

from itertools import zip_longest
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from bigtrain.ops import winograd
from bigtrain.ops.precision import outside_autocast
from bigtrain.ops.twins import use_reference

Pair = tuple[int, int]


def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    groups: int = 1,
) -> Tensor:
    """Correlate images with a weight; differentiable to any order.

    Args:
        x: shape [N, I, H, W].
        weight: shape [O, I / groups, k, l].
        bias: shape [O], or None.
        stride: of the positions.
        padding: zeros on each side.
        dilation: distance between neighbouring values of the kernel; above 1 PyTorch's own convolution is used.
        groups: into which the channels are cut.

    Returns:
        Shape [N, O, (H + 2 * padding - dilation * (k - 1) - 1) // stride + 1, likewise W]; autocast's dtype.
    """
    if dilation > 1 or _plainly(x, weight):
        x, weight = _laid_out(x, weight, dilation)
        return F.conv2d(x, weight, bias, stride, padding, dilation, groups)
    how = _How((stride, stride), (padding, padding), False, (0, 0), groups)
    x, weight, bias = _in_one_dtype(x, weight, bias)
    if not _is_differentiable(x, weight):
        return _convolve(x, weight, bias, how)
    result: Tensor = _Convolution.apply(x, weight, bias, how)
    return result


def conv_transpose2d(x: Tensor, weight: Tensor, *, stride: int = 1, padding: int = 0) -> Tensor:
    """Apply the transpose of `conv2d`; differentiable to any order.

    Args:
        x: shape [N, I, H, W].
        weight: shape [I, O, k, l].
        stride: of the positions.
        padding: samples cut off each side.

    Returns:
        Shape [N, O, (H - 1) * stride - 2 * padding + k, (W - 1) * stride - 2 * padding + l]; autocast's dtype.
    """
    if _plainly(x, weight):
        return F.conv_transpose2d(x, weight, stride=stride, padding=padding)
    how = _How((stride, stride), (padding, padding), True, (0, 0), 1)
    x, weight, _ = _in_one_dtype(x, weight, None)
    if not _is_differentiable(x, weight):
        return _convolve(x, weight, None, how)
    result: Tensor = _Convolution.apply(x, weight, None, how)
    return result


class _How(NamedTuple):
    stride: Pair
    padding: Pair
    transposed: bool
    output_padding: Pair
    groups: int


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, how: _How) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.how, ctx.biases = how, None if bias is None else list(bias.shape)
        return _convolve(x, weight, bias, how)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        by_x, by_weight, by_bias = wanted = _wanted(ctx)
        if not torch.is_grad_enabled():
            return *_gradients(grad, x, weight, ctx.biases, ctx.how, wanted), None
        # This backward will be differentiated (create_graph). Gradients lie in memory as the images do: the first one,
        # of a sum, comes in no layout of its own, and all that follow would inherit its.
        if x.is_contiguous(memory_format=torch.channels_last):
            grad = grad.contiguous(memory_format=torch.channels_last)
        return (
            _Convolution.apply(grad, weight, None, _adjoint(ctx.how, x, weight, grad)) if by_x else None,
            _WeightGradient.apply(grad, x, weight, ctx.how) if by_weight else None,
            grad.sum((0, 2, 3)) if by_bias else None,
            None,
        )


class _WeightGradient(torch.autograd.Function):
    """The gradient by the weight: linear in the result's gradient and in the image."""

    @staticmethod
    def forward(ctx: Any, grad: Tensor, x: Tensor, weight: Tensor, how: _How) -> Tensor:
        ctx.save_for_backward(grad, x)
        ctx.how = how
        found = _gradients(grad, x, weight, None, how, (False, True, False))[1]
        assert found is not None
        return found

    @staticmethod
    def backward(ctx: Any, grad_weight: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        grad, x = ctx.saved_tensors
        by_grad, by_x, _ = _wanted(ctx)
        back = _adjoint(ctx.how, x, grad_weight, grad)
        return (
            _Convolution.apply(x, grad_weight, None, ctx.how) if by_grad else None,
            _Convolution.apply(grad, grad_weight, None, back) if by_x else None,
            None,
            None,
        )


def _wanted(ctx: Any) -> tuple[bool, bool, bool]:
    """Tell for each of a function's first three arguments whether this backward is asked for its gradient.

    A penalty asks for D's gradient by the image alone, and `needs_input_grad` does not know of that.
    """
    nodes = [node for node, _ in ctx.next_functions]  # of the arguments that are tensors
    by_first, by_second, by_third = (
        bool(needed) and _is_asked_for(node)
        for needed, node in zip_longest(ctx.needs_input_grad[:3], nodes[:3], fillvalue=None)
    )
    return by_first, by_second, by_third


def _is_asked_for(node: Any) -> bool:
    try:
        return bool(torch._C._will_engine_execute_node(node))
    except RuntimeError:  # it is a leaf that `autograd.grad` was given: PyTorch refuses to tell what is plain
        return True


def _plainly(x: Tensor, weight: Tensor) -> bool:
    """Tell whether PyTorch's own will do: as the reference, for its compiler to see through, or for want of a gain."""
    gain = _is_differentiable(x, weight) or winograd.is_at_hand(x)
    return use_reference() or torch.compiler.is_compiling() or not gain


def _is_differentiable(x: Tensor, weight: Tensor) -> bool:
    return torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)


def _laid_out(x: Tensor, weight: Tensor, dilation: int) -> tuple[Tensor, Tensor]:
    """Return images and weight in a layout for which a CPU computes the weight's gradient correctly.

    In bf16 and channels_last, oneDNN's (PyTorch 2.14.1) is wrong or NaN on images above 32x32 where a dilated kernel
    meets channels that are no multiple of 16.
    """
    if dilation == 1 or x.device.type != "cpu" or not x.shape[1] % 16 or not _is_differentiable(x, weight):
        return x, weight
    if _operands_dtype(x) != torch.bfloat16:
        return x, weight
    return x.contiguous(), weight.contiguous()


def _operands_dtype(x: Tensor) -> torch.dtype:
    """Return the dtype in which PyTorch's own convolution computes: that of autocast, if it is on."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype


def _in_one_dtype(x: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """Do what autocast does before PyTorch's own."""
    dtype = _operands_dtype(x)
    if x.dtype == torch.float64 or not torch.is_autocast_enabled(x.device.type):
        return x, weight, bias
    return x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)


def _adjoint(how: _How, x: Tensor, weight: Tensor, y: Tensor) -> _How:
    """Return what leads from images like `y`, the result of `how` on images like `x`, back to those."""
    if how.transposed:
        return how._replace(transposed=False, output_padding=(0, 0))
    sides = zip(x.shape[2:], y.shape[2:], weight.shape[2:], how.stride, how.padding, strict=True)
    rest = [size - ((out - 1) * stride - 2 * pad + taps) for size, out, taps, stride, pad in sides]
    return how._replace(transposed=True, output_padding=(rest[0], rest[1]))


def _is_unit(how: _How) -> bool:
    """Tell whether it is of single steps, and of all channels together."""
    return how.stride == (1, 1) and how.padding[0] == how.padding[1] and how.groups == 1


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None, how: _How) -> Tensor:
    """Convolve in the operands' dtype: autocast would lower Winograd's products on CPUs, and convolutions on GPUs."""
    with outside_autocast(x.device.type):
        return _convolve_as_given(x, weight, bias, how)


def _convolve_as_given(x: Tensor, weight: Tensor, bias: Tensor | None, how: _How) -> Tensor:
    padding, turned = how.padding[0], winograd.TAPS - 1 - how.padding[0]
    y: Tensor
    if _is_unit(how) and not how.transposed and winograd.pays(x, weight, padding):
        y = winograd.convolve(x, weight, bias, padding)
    elif _is_unit(how) and how.transposed and winograd.pays(x, weight, turned):  # a convolution, with the taps turned
        y = winograd.convolve(x, weight.transpose(0, 1).flip(2, 3), bias, turned)
    else:
        y = torch.ops.aten.convolution(
            x, weight, bias, how.stride, how.padding, (1, 1), how.transposed, how.output_padding, how.groups
        )
    return y


def _gradients(
    grad: Tensor, x: Tensor, weight: Tensor, biases: list[int] | None, how: _How, wanted: tuple[bool, bool, bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Return the first gradients by image, weight and bias, those that are wanted, in the operands' dtype."""
    with outside_autocast(x.device.type):
        return _gradients_as_given(grad, x, weight, biases, how, wanted)


def _gradients_as_given(
    grad: Tensor, x: Tensor, weight: Tensor, biases: list[int] | None, how: _How, wanted: tuple[bool, bool, bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    large = grad if how.transposed else x
    if _is_unit(how) and winograd.pays(large, weight, how.padding[0]):
        grad = grad.contiguous(memory_format=torch.channels_last)
        small, large = (x, grad) if how.transposed else (grad, x)
        return (
            _convolve(grad, weight, None, _adjoint(how, x, weight, grad)) if wanted[0] else None,
            winograd.weight_gradient(small, large, how.padding[0]) if wanted[1] else None,
            grad.sum((0, 2, 3)) if wanted[2] else None,
        )
    if wanted[1] and x.device.type == "cpu" and not how.transposed and how.padding[0] > weight.shape[2] // 2:
        # oneDNN is three times slower at the weight's gradient where it pads by more than the usual half of the taps.
        more = how.padding[0] - weight.shape[2] // 2
        half = how._replace(padding=(how.padding[0] - more, how.padding[1] - more))
        by_x = _gradients(grad, x, weight, None, how, (True, False, False))[0] if wanted[0] else None
        _, by_weight, by_bias = _gradients(grad, F.pad(x, (more,) * 4), weight, biases, half, (False, True, wanted[2]))
        return by_x, by_weight, by_bias
    found: tuple[Tensor | None, Tensor | None, Tensor | None] = torch.ops.aten.convolution_backward(
        grad,
        x,
        weight,
        biases,
        how.stride,
        how.padding,
        (1, 1),
        how.transposed,
        how.output_padding,
        how.groups,
        wanted,
    )
    return found
