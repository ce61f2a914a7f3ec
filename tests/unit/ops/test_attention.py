import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from bigtrain.ops.attention import attention, attention_reference, negative_distance


def inputs(dtype: torch.dtype, dim: int = 4, value_dim: int | None = None) -> list[torch.Tensor]:
    shapes = [(2, 3, 5, dim), (2, 3, 6, dim), (2, 3, 6, value_dim or dim)]
    return [torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes]


@pytest.mark.parametrize("value_dim", [4, 7, 2])
def test_derivatives(value_dim: int) -> None:
    tensors = inputs(torch.float64, value_dim=value_dim)
    assert gradcheck(lambda *x: attention(*x, scale=0.5), tensors)
    assert gradgradcheck(lambda *x: attention(*x, scale=0.5), tensors)


@pytest.mark.parametrize("value_dim", [8, 16, 3])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 3e-2)])
def test_equals_its_twin_with_its_first_and_second_derivatives(
    dtype: torch.dtype, tolerance: float, value_dim: int
) -> None:
    tensors = inputs(dtype, dim=8, value_dim=value_dim)
    found = []
    for function in (attention, attention_reference):
        out = function(*tensors, scale=0.3)
        first = torch.autograd.grad(out.float().square().sum(), tensors)
        (slope,) = torch.autograd.grad(function(*tensors, scale=0.3).sum(), tensors[0], create_graph=True)
        second = torch.autograd.grad(slope.float().square().sum(), tensors)
        found.append([out, *first, *second])
    for ours, reference in zip(*found, strict=True):
        assert ours.dtype == dtype
        scale = float(
            reference.detach().abs().max()
        )  # in bfloat16, what is left of sums that cancel is as far off as the sums
        torch.testing.assert_close(ours, reference, rtol=0, atol=tolerance * scale)


def test_autocast_does_not_round_what_comes_in_float32() -> None:
    tensors = inputs(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        inside = attention(*tensors, scale=0.5)
    assert torch.equal(inside, attention(*tensors, scale=0.5))


def test_attention_by_distance() -> None:
    query, key, value = (tensor.detach() for tensor in inputs(torch.float32))
    weights = (-0.5 * torch.cdist(query, key).square()).softmax(-1)
    ours = attention(*negative_distance(query, key), value, scale=0.5)
    torch.testing.assert_close(ours, weights @ value, rtol=1e-4, atol=1e-5)
