import pytest
import torch

from bigtrain.ops.padding import mirror1d, mirror_by_slices, pad2d, pad_by_slices


@pytest.mark.parametrize("amount", [1, 3])
@pytest.mark.parametrize("mode", ["reflect", "replicate"])
def test_slices_pad_as_pytorch_does(mode, amount: int) -> None:
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    expected, ours = pad2d(x, amount, mode), pad_by_slices(x, amount, mode)
    assert torch.equal(ours, expected)
    weight = torch.randn_like(expected)
    gradients = [torch.autograd.grad((y * weight).sum(), x)[0] for y in (expected, ours)]
    torch.testing.assert_close(gradients[1], gradients[0])


@pytest.mark.parametrize(("before", "after"), [(0, 0), (0, 3), (4, 4)])
def test_slices_mirror_as_pytorch_does(before: int, after: int) -> None:
    x = torch.randn(2, 1, 7, dtype=torch.float64, requires_grad=True)
    expected, ours = mirror1d(x, before, after), mirror_by_slices(x, before, after)
    assert torch.equal(ours, expected)
    weight = torch.randn_like(expected)
    gradients = [torch.autograd.grad((y * weight).sum(), x)[0] for y in (expected, ours)]
    torch.testing.assert_close(gradients[1], gradients[0])


def test_zeros() -> None:
    assert torch.equal(pad2d(torch.ones(1, 1, 1, 1), 1, "zero").flatten(), torch.eye(9)[4])
