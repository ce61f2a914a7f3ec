from unittest import mock

import pytest
import torch

from bigtrain.ops import filtered_nonlinearity as filtered_nonlinearity_module
from bigtrain.ops import resampling
from bigtrain.ops.filter_design import kaiser_lowpass, radial_kaiser_lowpass
from bigtrain.ops.filtered_nonlinearity import filtered_nonlinearity, filtered_nonlinearity_reference
from bigtrain.ops.resampling import Resampling

CASES = [(2, 2, False), (4, 2, False), (2, 2, True), (2, 4, True)]


def maps(up: int, down: int, radial: bool, size=(9, 7), out=(8, 10)) -> tuple[Resampling, Resampling]:
    lowpass = radial_kaiser_lowpass if radial else kaiser_lowpass
    between = tuple(side * up + 6 for side in size)
    rise = Resampling(kaiser_lowpass(6 * up, cutoff=0.4, width=0.3, rate=up), up=up, size=size, out=between, gain=up**2)
    return rise, Resampling(lowpass(6 * down, cutoff=0.4, width=0.3, rate=down), down=down, size=between, out=out)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("clamp", [None, 0.5])
@pytest.mark.parametrize("longest", [192, 16])
def test_equals_its_definition(case, clamp: float | None, longest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resampling, "_LONGEST", longest)
    rise, fall = maps(*case)
    x = torch.randn(2, 3, 9, 7)
    y = filtered_nonlinearity(x, rise, fall, clamp=clamp)
    assert y.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(y, filtered_nonlinearity_reference(x, rise, fall, clamp=clamp), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("clamp", [None, 0.5])
def test_blocks_for_the_cache_change_nothing(clamp: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    rise, fall = maps(2, 2, False)
    x = torch.randn(3, 37, 9, 7, requires_grad=True)
    found = []
    for cache, computed in ((2**30, 1), (1, 3 * 3)):  # all together; 3 images by 16, 16 and 5 channels
        monkeypatch.setattr(filtered_nonlinearity_module, "_CACHE", cache)
        with mock.patch.object(rise, "along", wraps=rise.along) as along:
            y = filtered_nonlinearity(x, rise, fall, clamp=clamp)
            assert along.call_count == computed
        (slope,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
        (second,) = torch.autograd.grad(slope.square().sum(), x)
        assert y.is_contiguous(memory_format=torch.channels_last)
        found.append((y, slope, second))
    for whole, blocks in zip(*found, strict=True):
        torch.testing.assert_close(blocks, whole, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("longest", [192, 8])
def test_first_and_second_derivatives(case, longest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resampling, "_LONGEST", longest)
    rise, fall = (part.double() for part in maps(*case, size=(4, 3), out=(3, 4)))
    x = torch.randn(1, 2, 4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: filtered_nonlinearity(x, rise, fall, clamp=1.5), x)
    assert torch.autograd.gradgradcheck(lambda x: filtered_nonlinearity(x, rise, fall, clamp=1.5).square(), x)
    assert torch.autograd.gradgradcheck(lambda x: fall(rise(x)).square(), x)


def test_keeps_precision() -> None:
    rise, fall = maps(2, 2, True)
    x = torch.randn(2, 3, 9, 7)
    with torch.autocast("cpu", torch.bfloat16):
        y = filtered_nonlinearity(x.bfloat16(), rise, fall)
    assert y.dtype == torch.bfloat16
    exact = filtered_nonlinearity(x, rise, fall)
    assert (y - exact).abs().max() < 0.03 * exact.abs().max()


def test_a_shift_by_a_whole_sample_goes_through() -> None:
    rise, fall = maps(2, 2, False, size=(40, 40), out=(40, 40))
    x = torch.randn(1, 1, 40, 40)
    y, shifted = filtered_nonlinearity(x, rise, fall), filtered_nonlinearity(x.roll(1, 3), rise, fall)
    torch.testing.assert_close(shifted[..., 10:30, 10:30], y.roll(1, 3)[..., 10:30, 10:30])


def test_sizes_without_a_common_centre_are_refused() -> None:
    with pytest.raises(ValueError, match="about one centre"):
        Resampling(torch.ones(2), size=(4, 4), out=(4, 4))
