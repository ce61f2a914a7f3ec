import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.utils.checkpoint import checkpoint

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
        # in bfloat16, what is left of sums that cancel is as far off as the sums
        scale = float(reference.detach().abs().max())
        torch.testing.assert_close(ours, reference, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("checkpointed", [False, True])
def test_the_backward_computes_no_forward_again(checkpointed: bool) -> None:
    tensors = inputs(torch.float32, value_dim=7)

    def compute(*tensors: torch.Tensor) -> torch.Tensor:
        return attention(*tensors, scale=0.5).square()

    with torch.profiler.profile() as profile:
        out = checkpoint(compute, *tensors, use_reentrant=False) if checkpointed else compute(*tensors)
        found = [torch.autograd.grad(out.sum(), tensors, retain_graph=True) for _ in range(2)]
    calls = {event.key: event.count for event in profile.key_averages()}
    forward = "aten::_scaled_dot_product_flash_attention_for_cpu"
    assert (calls[forward], calls[f"{forward}_backward"]) == (3 if checkpointed else 1, 2)
    expected = torch.autograd.grad(attention_reference(*tensors, scale=0.5).square().sum(), tensors)
    torch.testing.assert_close(found, [expected, expected])


def test_vectors_may_lie_across_memory() -> None:
    tensors = [tensor.detach().mT.contiguous().mT.requires_grad_() for tensor in inputs(torch.float32)]
    found, expected = (
        [out := function(*tensors, scale=0.5), *torch.autograd.grad(out, tensors, out.detach().mT.contiguous().mT)]
        for function in (attention, attention_reference)
    )
    torch.testing.assert_close(found, expected)


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
