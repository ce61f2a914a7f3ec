"""First and second derivatives of every operator in float64, and channels_last in and out.

R1 and the path length differentiate twice through all of them. `upfirdn2d`, the filtered nonlinearity and attention
have these checks beside their other tests.
"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from bigtrain.models.layers.attention import SelfAttention
from bigtrain.models.layers.minibatch import minibatch_stddev
from bigtrain.ops.batch_norm import batch_norm
from bigtrain.ops.bias_act import bias_act
from bigtrain.ops.modulated_conv import conv2d_resampled, modulated_conv2d, modulated_conv2d_reference
from bigtrain.ops.spectral_norm import divide_by_singular_value, spectral_norm, stored_spectral_norm
from bigtrain.ops.upfirdn import fir_filter, upfirdn2d

FIR = fir_filter((1, 3, 3, 1))


def leaves(*shapes: tuple[int, ...]) -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]


def check(function: Callable[..., Tensor], *inputs: Tensor) -> None:
    assert gradcheck(function, inputs)
    assert gradgradcheck(lambda *x: function(*x).square(), inputs)


@pytest.mark.parametrize("function", [modulated_conv2d, modulated_conv2d_reference])
@pytest.mark.parametrize("up", [1, 2])
@pytest.mark.parametrize("demodulate", [True, False])
@pytest.mark.parametrize("size", [1, 3])
def test_modulated_conv(function, up: int, demodulate: bool, size: int) -> None:
    x, weight, style = leaves((2, 2, 3, 3), (2, 2, size, size), (2, 2))
    fir = FIR.double()
    check(lambda *x: function(*x, fir=fir, up=up, demodulate=demodulate), x, weight, style)


@pytest.mark.parametrize("case", [{"up": 2}, {"down": 2}, {}])
@pytest.mark.parametrize("size", [1, 3])
def test_conv_with_resampling(case: dict[str, int], size: int) -> None:
    fir = FIR.double()
    check(lambda x, w: conv2d_resampled(x, w, fir=fir, **case), *leaves((1, 2, 4, 4), (2, 2, size, size)))


@pytest.mark.parametrize("act", ["linear", "lrelu", "relu"])
@pytest.mark.parametrize("clamp", [None, 1.0])
def test_bias_act(act: str, clamp: float | None) -> None:
    check(lambda x, bias: bias_act(x, bias, act=act, gain=0.7, clamp=clamp), *leaves((2, 3, 2, 2), (3,)))


def test_spectral_norm() -> None:
    """The singular vectors are constants of the second derivative; of the first, once they have converged."""
    weight, left, right = leaves((3, 2, 2, 2), (3,), (8,))
    check(lambda w: divide_by_singular_value(w, left.detach(), right.detach())[0], weight)
    check(lambda w: stored_spectral_norm(w, left.detach(), right.detach(), update=False), weight)
    u = torch.randn(1, 3, dtype=torch.float64)
    for _ in range(500):
        spectral_norm(weight.detach(), u, update=True)
    assert gradcheck(lambda w: spectral_norm(w, u, update=False)[0], weight)


@pytest.mark.parametrize("group", [1, 2, 4])
@pytest.mark.parametrize("channels", [1, 2])
def test_minibatch_stddev(group: int, channels: int) -> None:
    (x,) = leaves((4, 2, 2, 2))
    if group > 1:
        check(lambda x: minibatch_stddev(x, group, channels), x)
    assert gradcheck(lambda x: minibatch_stddev(x, group, channels), x)


def test_batch_norm() -> None:
    mean, var = torch.zeros(2).double(), torch.ones(2).double()
    for training in (True, False):
        check(lambda x, on=training: batch_norm(x, mean, var, training=on), *leaves((3, 2, 2, 2)))


def test_self_attention() -> None:
    layer = SelfAttention(8).double().eval()
    layer.gamma.data.fill_(0.7)
    check(layer, *leaves((1, 8, 4, 2)))


LAYOUTS = {
    "upfirdn2d up": lambda x, w: upfirdn2d(x, FIR, up=2, padding=(2, 1, 2, 1)),
    "upfirdn2d down": lambda x, w: upfirdn2d(x, FIR, down=2, padding=(1, 1, 1, 1)),
    "conv": lambda x, w: conv2d_resampled(x, w),
    "conv up": lambda x, w: conv2d_resampled(x, w, fir=FIR, up=2),
    "conv down": lambda x, w: conv2d_resampled(x, w, fir=FIR, down=2),
    "modulated": lambda x, w: modulated_conv2d(x, w, torch.ones(2, 4)),
    "modulated up": lambda x, w: modulated_conv2d(x, w, torch.ones(2, 4), fir=FIR, up=2),
    "bias_act": lambda x, w: bias_act(x, torch.ones(4), act="lrelu", clamp=1.0),
    "batch_norm": lambda x, w: batch_norm(x, torch.zeros(4), torch.ones(4), training=True),
    "minibatch_stddev": lambda x, w: minibatch_stddev(x, 2),
    "self-attention": lambda x, w: SelfAttention(8)(torch.cat([x, x], 1).contiguous(memory_format=torch.channels_last)),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_channels_last_in_and_out(name: str) -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(2, 4, 8, 8), torch.randn(4, 4, 3, 3)
    torch.manual_seed(1)
    rows = LAYOUTS[name](x, weight)
    torch.manual_seed(1)
    last = LAYOUTS[name](
        x.contiguous(memory_format=torch.channels_last), weight.contiguous(memory_format=torch.channels_last)
    )
    assert last.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(last, rows, rtol=1e-4, atol=1e-5)
