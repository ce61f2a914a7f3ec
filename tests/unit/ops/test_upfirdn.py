import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bigtrain.ops.upfirdn import fir_filter, upfirdn2d, upfirdn2d_reference

CASES = [
    {"up": 2, "padding": (2, 1, 2, 1), "gain": 4.0},
    {"down": 2, "padding": (1, 1, 1, 1)},
    {"padding": (2, 2, 2, 2)},
    {"padding": (2, 1, 0, 3)},
    {"padding": (-1, 2, 1, -1)},
    {"up": 3, "padding": (0, 4, 3, 0)},
]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("channels_last", [False, True])
def test_equals_its_definition(case, channels_last: bool) -> None:
    x = torch.randn(2, 3, 7, 6)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    fir = torch.randn(4, 3)
    torch.testing.assert_close(upfirdn2d(x, fir, **case), upfirdn2d_reference(x, fir, **case), rtol=1e-5, atol=1e-5)


@given(
    up=st.integers(1, 3), down=st.integers(1, 3), height=st.integers(2, 9), width=st.integers(2, 9),
    taps=st.integers(1, 5), near=st.integers(-1, 4), far=st.integers(-1, 4),
)  # fmt: skip
@settings(deadline=None)
def test_equals_its_definition_at_any_size(up, down, height, width, taps, near, far) -> None:
    if (up > 1 and down > 1) or min(height, width) * up + near + far < taps:
        return
    x, fir = torch.randn(1, 2, height, width), torch.randn(taps, taps)
    case = {"up": up, "down": down, "padding": (near, far, near, far)}
    torch.testing.assert_close(upfirdn2d(x, fir, **case), upfirdn2d_reference(x, fir, **case), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("case", CASES)
def test_first_and_second_derivatives(case) -> None:
    x = torch.randn(1, 2, 5, 4, dtype=torch.float64, requires_grad=True)
    fir = torch.randn(4, 3, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: upfirdn2d(x, fir, **case), x)
    assert torch.autograd.gradgradcheck(lambda x: upfirdn2d(x, fir, **case).square(), x)


def test_keeps_precision_and_brightness() -> None:
    x = torch.ones(1, 2, 8, 8, dtype=torch.bfloat16)
    y = upfirdn2d(x, fir_filter((1, 3, 3, 1)), up=2, padding=(2, 1, 2, 1), gain=4)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y[..., 4:-4, 4:-4].float(), torch.ones(1, 2, 8, 8))


def test_up_and_down_together_are_refused() -> None:
    with pytest.raises(ValueError, match="not both"):
        upfirdn2d(torch.ones(1, 1, 4, 4), fir_filter((1, 1)), up=2, down=2)
