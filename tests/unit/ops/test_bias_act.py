import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck, gradgradcheck

from bigtrain.ops.bias_act import bias_act, leaky_relu


def test_adds_activates_scales_and_clamps() -> None:
    x, bias = torch.randn(2, 3, 4, 4), torch.randn(3)
    expected = (F.leaky_relu(x + bias[:, None, None], 0.2) * 2**0.5 * 0.5).clamp(-0.15, 0.15)
    torch.testing.assert_close(bias_act(x, bias, act="lrelu", gain=0.5, clamp=0.3), expected)
    torch.testing.assert_close(bias_act(x[:, :, 0, 0], bias), x[:, :, 0, 0] + bias)


def test_unknown_activations_are_named() -> None:
    with pytest.raises(ValueError, match="'gelu'"):
        bias_act(torch.ones(1, 1), act="gelu")


@pytest.mark.parametrize("slope", [0.0, 0.2])
def test_leaky_relu_has_all_derivatives(slope: float) -> None:
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.equal(leaky_relu(x, slope), F.leaky_relu(x, slope))
    assert gradcheck(lambda x: leaky_relu(x, slope), x)
    assert gradgradcheck(lambda x: leaky_relu(x, slope).square(), x)


def test_a_penalty_on_a_slope_carries_no_zeros_back_through_the_network() -> None:
    """PyTorch's own leaky ReLU does: the weights before the last layer get gradients of zero, computed in full."""
    found = []
    for function in (leaky_relu, F.leaky_relu):
        weights = [torch.randn(4, 4, requires_grad=True) for _ in range(2)]
        x, bias = torch.randn(2, 4, requires_grad=True), torch.zeros(4, requires_grad=True)
        y = function(x @ weights[0] + bias, 0.2) @ weights[1]
        (slope,) = torch.autograd.grad(y.sum(), x, create_graph=True)
        slope.square().sum().backward()
        assert all(weight.grad.abs().max() > 0 for weight in weights)
        found.append(bias.grad)
    assert found[0] is None and torch.equal(found[1], torch.zeros(4))
