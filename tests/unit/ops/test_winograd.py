from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import gradcheck, gradgradcheck

from bigtrain.ops import winograd
from bigtrain.ops.convolution import conv2d, conv_transpose2d
from bigtrain.ops.twins import reference_paths
from bigtrain.planning.operations import Counter


def images(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, dtype=dtype).contiguous(memory_format=torch.channels_last)


@given(
    batch=st.integers(1, 3), ins=st.integers(1, 3), outs=st.integers(1, 3), height=st.integers(3, 13),
    width=st.integers(3, 13), padding=st.integers(0, 2), at_once=st.integers(1, 40),
)  # fmt: skip
@settings(deadline=None)
def test_equals_the_definition_at_any_size_in_blocks_of_any_size(
    batch: int, ins: int, outs: int, height: int, width: int, padding: int, at_once: int
) -> None:
    x, bias = images(batch, ins, height, width), torch.randn(outs, dtype=torch.float64)
    weight = torch.randn(outs, ins, 3, 3, dtype=torch.float64, requires_grad=True)
    expected = F.conv2d(x, weight, bias, padding=padding)
    grad = torch.randn_like(expected)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(winograd, "_AT_ONCE", at_once)
        torch.testing.assert_close(winograd.convolve(x, weight.detach(), bias, padding), expected.detach())
        by_weight = winograd.weight_gradient(grad, x, padding)
    torch.testing.assert_close(by_weight, torch.autograd.grad(expected, weight, grad)[0])


@pytest.mark.parametrize("padding", [0, 1, 2])
@pytest.mark.parametrize("function", [conv2d, conv_transpose2d])
def test_derivatives_of_two_orders(
    function: Callable[..., Tensor], padding: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of them by Winograd's algorithm, as there is nothing else that counts here."""
    monkeypatch.setattr(winograd, "pays", lambda x, weight, padding: padding in range(3))
    monkeypatch.delattr(torch.ops.aten, "convolution")
    monkeypatch.delattr(torch.ops.aten, "convolution_backward")
    weight = (3, 2, 3, 3) if function is conv2d else (2, 3, 3, 3)
    inputs = [images(2, 2, 5, 4).requires_grad_(), torch.randn(weight, dtype=torch.float64, requires_grad=True)]
    assert gradcheck(lambda *x: function(*x, padding=padding), inputs)
    assert gradgradcheck(lambda *x: function(*x, padding=padding).square(), inputs)


def test_rounds_little_more_than_the_definition() -> None:
    torch.manual_seed(0)
    x, grad = (images(2, 256, 24, 24, dtype=torch.float32) for _ in range(2))
    weight = images(256, 256, 3, 3, dtype=torch.float32)
    found = []
    for dtype in (torch.float64, torch.float32):
        w = weight.to(dtype).requires_grad_()
        y = F.conv2d(x.to(dtype), w, padding=1)
        found.append((y.detach(), *torch.autograd.grad(y, w, grad.to(dtype))))
    exact, plain = found
    ours = winograd.convolve(x, weight, None, 1), winograd.weight_gradient(grad, x, 1)
    for truth, definition, fast, most in zip(exact, plain, ours, (2, 10), strict=True):
        errors = [(value - truth).norm() / truth.norm() for value in (definition, fast)]
        assert errors[1] < most * errors[0]  # oneDNN sums the weight's gradient up in parts, with fewer roundings
        assert errors[1] < 3e-6


def test_takes_large_images_in_float32_and_counts_them_as_the_definition_does(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, small = images(128, 128, 3, 3, dtype=torch.float32), images(1, 128, 8, 8, dtype=torch.float32)
    x = images(4, 128, 16, 16, dtype=torch.float32)
    calls: list[Any] = []
    own = winograd.convolve
    monkeypatch.setattr(winograd, "convolve", lambda *args: (calls.append(args), own(*args))[1])

    def operations(*args: Tensor, **how: int) -> int:
        with Counter() as counter:  # type: ignore[no-untyped-call]
            y = conv2d(args[0].clone().requires_grad_(), args[1].clone().requires_grad_(), **how)
            y.sum().backward()
        return counter.flops

    fast = operations(x, weight, padding=1)
    assert len(calls) == 2  # forward, and the gradient by the image
    with reference_paths():
        assert operations(x, weight, padding=1) == fast
    operations(small, weight, padding=1)
    operations(x, weight, padding=1, stride=2)
    operations(x.contiguous(), weight, padding=1)
    operations(x.bfloat16(), weight.bfloat16(), padding=1)
    operations(x, weight[:, :64].contiguous(), padding=1, groups=2)
    with FakeTensorMode() as mode:
        conv2d(mode.from_tensor(x), mode.from_tensor(weight), padding=1)
    assert len(calls) == 2
