from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.utils._python_dispatch import TorchDispatchMode

from bigtrain.ops.convolution import conv2d, conv_transpose2d

CASES = [
    (conv2d, (2, 2, 4, 3), (3, 2, 3, 3), {"padding": 1}),
    (conv2d, (2, 2, 4, 3), (3, 2, 3, 3), {"padding": 2}),
    (conv2d, (2, 2, 4, 3), (3, 2, 1, 1), {}),
    (conv2d, (2, 2, 6, 5), (3, 2, 3, 3), {"stride": 2}),
    (conv2d, (2, 4, 4, 3), (4, 2, 3, 3), {"padding": 1, "groups": 2}),
    (conv_transpose2d, (2, 2, 2, 3), (2, 3, 3, 3), {"stride": 2}),
    (conv_transpose2d, (2, 2, 2, 3), (2, 3, 4, 4), {"stride": 2, "padding": 1}),
]


@pytest.mark.parametrize(("function", "image", "weight", "case"), CASES)
def test_derivatives_of_two_orders(
    function: Callable[..., Tensor], image: tuple[int, ...], weight: tuple[int, ...], case: dict[str, int]
) -> None:
    shapes = [image, weight, *[weight[:1]] * (function is conv2d)]
    inputs = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    assert gradcheck(lambda *x: function(*x, **case), inputs)
    assert gradgradcheck(lambda *x: function(*x, **case).square(), inputs)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(("function", "image", "weight", "case"), CASES)
def test_equals_pytorchs_own(
    function: Callable[..., Tensor],
    image: tuple[int, ...],
    weight: tuple[int, ...],
    case: dict[str, int],
    channels_last: bool,
) -> None:
    """To the last bit in what is not differentiated again, and within rounding in what is."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    found = []
    for own in (function, getattr(F, function.__name__)):
        torch.manual_seed(0)
        x, w = (torch.randn(shape).contiguous(memory_format=layout).requires_grad_() for shape in (image, weight))
        y = own(x, w, **case)
        first = torch.autograd.grad(y.square().sum(), (x, w), retain_graph=True)
        (slope,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
        found.append((y, first, torch.autograd.grad(slope.square().sum(), (x, w))))
    (y, first, second), (y_own, first_own, second_own) = found
    exact = 0.0 if case.get("padding", 0) <= weight[2] // 2 else 1e-5  # zeros of our own there, for speed
    torch.testing.assert_close((y, first), (y_own, first_own), rtol=exact, atol=exact)
    torch.testing.assert_close(second, second_own, rtol=1e-4, atol=1e-3)


@given(
    size=st.integers(1, 9), taps=st.integers(1, 4), stride=st.integers(1, 3), padding=st.integers(0, 2),
    transposed=st.booleans(),
)  # fmt: skip
@settings(deadline=None)
def test_the_adjoint_fits_at_any_size(size: int, taps: int, stride: int, padding: int, transposed: bool) -> None:
    """<y, A x> differentiated by x and then by y gives the image back: sizes that the stride does not divide too."""
    longest = (size - 1) * stride + taps if transposed else size + 2 * padding
    if longest <= (2 * padding if transposed else taps - 1):
        return
    function = conv_transpose2d if transposed else conv2d
    x, w = torch.randn(1, 2, size, size, requires_grad=True), torch.randn(2, 2, taps, taps, requires_grad=True)
    y = function(x, w, stride=stride, padding=padding)
    direction = torch.randn_like(y, requires_grad=True)
    (slope,) = torch.autograd.grad(y, x, direction, create_graph=True)
    (back,) = torch.autograd.grad(slope, direction, x.detach())
    torch.testing.assert_close(back, y.detach(), rtol=1e-4, atol=1e-4)


def test_computes_in_autocasts_precision() -> None:
    x, w, b = torch.randn(1, 3, 4, 4), torch.randn(2, 3, 3, 3, requires_grad=True), torch.randn(2)
    with torch.autocast("cpu", torch.bfloat16):
        y = conv2d(x, w, b, padding=1)
        expected = F.conv2d(x, w, b, padding=1)
    torch.testing.assert_close(y, expected, rtol=0, atol=0)
    y.float().sum().backward()
    assert w.grad is not None and w.grad.dtype == torch.float32


@pytest.mark.parametrize("channels", [24, 40])
def test_a_dilated_convolution_learns_in_bf16(channels: int) -> None:
    """PyTorch's own weight gradient is NaN or three times too large here, on CPUs with bf16 (2.14.1)."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(2, channels, 48, 48, generator=draw).to(memory_format=torch.channels_last)
    weight = torch.randn(16, channels, 3, 3, generator=draw).to(memory_format=torch.channels_last).requires_grad_()
    found, expected = (
        torch.autograd.grad(conv2d(x.to(dtype), weight.to(dtype), padding=2, dilation=2).float().sum(), weight)[0]
        for dtype in (torch.bfloat16, torch.float32)
    )
    assert (found - expected).norm() < 0.02 * expected.norm()


def test_a_slope_by_the_image_costs_no_gradient_of_the_weight() -> None:
    class Count(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.wanted: list[list[bool]] = []

        def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if operator.overloadpacket is torch.ops.aten.convolution_backward:
                self.wanted.append(list(args[-1]))
            return operator(*args, **(kwargs or {}))

    x, w = torch.randn(1, 2, 4, 4, requires_grad=True), torch.randn(2, 2, 3, 3, requires_grad=True)
    hidden = conv2d(x, w, padding=1)
    y = conv2d(hidden, w * 2, padding=1)
    with Count() as count:
        torch.autograd.grad(y.sum(), x, create_graph=True)
        assert count.wanted == []  # by transposed convolutions alone
        torch.autograd.grad(y.sum(), x, retain_graph=True)
        assert count.wanted == [[True, False, False]] * 2
