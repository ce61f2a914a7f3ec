import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck, gradgradcheck

from bigtrain.ops.batch_norm import batch_norm


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_statistics_over_one_rank_equal_torchs(dtype: torch.dtype) -> None:
    x = (torch.randn(6, 5, 4, 4) * 3 + 2).to(dtype).contiguous(memory_format=torch.channels_last)
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    stats = torch.float64 if dtype == torch.float64 else torch.float32
    weight = torch.randn(6, 5, 4, 4).to(dtype)
    mean, var = torch.zeros(5, dtype=stats), torch.ones(5, dtype=stats)
    y = batch_norm(ours, mean, var, training=True, over_ranks=lambda tensor: tensor)
    expected_mean, expected_var = torch.zeros(5, dtype=stats), torch.ones(5, dtype=stats)
    expected = F.batch_norm(theirs, expected_mean, expected_var, training=True)
    tolerance = {"rtol": 2e-2, "atol": 3e-2} if dtype == torch.bfloat16 else {"rtol": 1e-4, "atol": 1e-4}
    torch.testing.assert_close(y, expected, **tolerance)
    (y * weight).sum().backward()
    (expected * weight).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, **tolerance)
    torch.testing.assert_close(mean, expected_mean, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(var, expected_var, rtol=1e-4, atol=1e-4)


def test_first_and_second_derivatives() -> None:
    x = torch.randn(3, 2, 2, 2, dtype=torch.float64, requires_grad=True)

    def normalise(x: torch.Tensor) -> torch.Tensor:
        mean, var = torch.zeros(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64)
        return batch_norm(x, mean, var, training=True, over_ranks=lambda tensor: tensor)

    assert gradcheck(normalise, [x])
    assert gradgradcheck(normalise, [x])
