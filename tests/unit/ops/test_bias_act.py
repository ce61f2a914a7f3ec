import pytest
import torch
import torch.nn.functional as F

from bigtrain.ops.bias_act import bias_act


def test_adds_activates_scales_and_clamps() -> None:
    x, bias = torch.randn(2, 3, 4, 4), torch.randn(3)
    expected = (F.leaky_relu(x + bias[:, None, None], 0.2) * 2**0.5 * 0.5).clamp(-0.15, 0.15)
    torch.testing.assert_close(bias_act(x, bias, act="lrelu", gain=0.5, clamp=0.3), expected)
    torch.testing.assert_close(bias_act(x[:, :, 0, 0], bias), x[:, :, 0, 0] + bias)


def test_unknown_activations_are_named() -> None:
    with pytest.raises(ValueError, match="'gelu'"):
        bias_act(torch.ones(1, 1), act="gelu")
