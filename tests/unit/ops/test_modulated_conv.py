import pytest
import torch

from bigtrain.ops.modulated_conv import conv2d_resampled, modulated_conv2d, modulated_conv2d_reference
from bigtrain.ops.upfirdn import fir_filter


@pytest.mark.parametrize("up", [1, 2])
@pytest.mark.parametrize("demodulate", [True, False])
@pytest.mark.parametrize("size", [1, 3])
def test_equals_one_weight_a_sample(up: int, demodulate: bool, size: int) -> None:
    fir = fir_filter((1, 3, 3, 1)).double()
    x, weight, style = (
        torch.randn(3, 4, 6, 6).double(),
        torch.randn(5, 4, size, size).double(),
        torch.randn(3, 4).double(),
    )
    case = {"fir": fir, "up": up, "demodulate": demodulate}
    expected = modulated_conv2d_reference(x, weight, style, **case)
    assert expected.shape == (3, 5, 6 * up, 6 * up)
    torch.testing.assert_close(modulated_conv2d(x, weight, style, **case), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("case", [{"up": 2}, {"down": 2}, {}])
@pytest.mark.parametrize("size", [1, 3])
def test_resampling_has_the_right_shape_and_second_derivative(case, size: int) -> None:
    fir = fir_filter((1, 3, 3, 1)).double()
    x = torch.randn(1, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, 2, size, size, dtype=torch.float64, requires_grad=True)
    side = 4 * case.get("up", 1) // case.get("down", 1)
    assert conv2d_resampled(x, weight, fir=fir, **case).shape == (1, 3, side, side)
    assert torch.autograd.gradgradcheck(lambda x, w: conv2d_resampled(x, w, fir=fir, **case).square(), (x, weight))


def test_resampling_needs_a_filter() -> None:
    with pytest.raises(ValueError, match="filter"):
        conv2d_resampled(torch.ones(1, 1, 4, 4), torch.ones(1, 1, 3, 3), up=2)
