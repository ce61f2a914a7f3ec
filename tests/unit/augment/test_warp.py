import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bigtrain.augment.warp import SYM6, reflected, warp, warp_reference
from bigtrain.ops.grid_lookup import spread_in_order


def _affine(n: int, spread: float, dtype=torch.float64) -> torch.Tensor:
    inverse = torch.eye(2, 3, dtype=dtype) + spread * torch.randn(n, 2, 3, dtype=dtype)
    inverse[:, :, 2] *= 6
    return inverse


def test_the_wavelet_is_orthogonal() -> None:
    taps = torch.tensor(SYM6, dtype=torch.float64)
    for lag in range(6):
        product = (taps[: len(taps) - 2 * lag] * taps[2 * lag :]).sum()
        torch.testing.assert_close(product, torch.tensor(float(lag == 0), dtype=torch.float64), rtol=0, atol=1e-11)


def test_reflection() -> None:
    assert reflected(torch.arange(-4, 8), 4).tolist() == [2, 3, 2, 1, 0, 1, 2, 3, 2, 1, 0, 1]


@given(
    batch=st.integers(1, 3), channels=st.integers(1, 4), height=st.integers(2, 17), width=st.integers(2, 17),
    seed=st.integers(0, 1000),
)  # fmt: skip
@settings(deadline=None, max_examples=20)
def test_equals_its_definition(batch, channels, height, width, seed) -> None:
    torch.manual_seed(seed)
    images = torch.randn(batch, channels, height, width, dtype=torch.float64)
    inverse = torch.eye(2, 3, dtype=torch.float64) + 0.3 * torch.randn(batch, 2, 3, dtype=torch.float64)
    torch.testing.assert_close(warp(images, inverse), warp_reference(images, inverse), rtol=1e-9, atol=1e-9)


def test_large_images_in_single_precision() -> None:
    images, inverse = torch.rand(1, 1, 256, 192), _affine(1, 0.1, torch.float32)
    torch.testing.assert_close(warp(images, inverse), warp_reference(images, inverse), rtol=0, atol=2e-3)
    exact = warp(images.double(), inverse.double())
    assert (warp(images, inverse) - exact).abs().mean() < 1e-4


def test_nothing_changes_without_a_transform() -> None:
    images = torch.randn(2, 3, 9, 12).contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(warp(images, torch.eye(2, 3).expand(2, 2, 3)), images, rtol=0, atol=1e-5)


def test_no_transform_is_too_large() -> None:
    shift = torch.eye(2, 3, dtype=torch.float64).repeat(1, 1, 1)
    shift[:, :, 2] = torch.tensor([1e3 * 2 * 7, -1e3 * 2 * 7])  # a thousand periods of an image of 8 pixels
    images = torch.randn(1, 1, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(warp(images, shift), images, rtol=0, atol=1e-9)


def test_a_sample_does_not_depend_on_the_others() -> None:
    images, inverse = torch.randn(4, 3, 16, 16), _affine(4, 0.3, torch.float32)
    alone = torch.cat([warp(images[n : n + 1], inverse[n : n + 1]) for n in range(4)])
    torch.testing.assert_close(warp(images, inverse), alone, rtol=0, atol=1e-6)


def test_first_and_second_derivatives() -> None:
    images = torch.randn(2, 1, 4, 3, dtype=torch.float64, requires_grad=True)
    inverse = _affine(2, 0.4)
    assert torch.autograd.gradcheck(lambda x: warp(x, inverse), images)
    assert torch.autograd.gradgradcheck(lambda x: warp(x, inverse).square(), images)


def test_the_gradient_that_repeats_is_the_one_of_grid_sample() -> None:
    grid = torch.rand(2, 5, 7, 2) * 2.6 - 1.3  # some of it outside of the image
    grad = torch.randn(2, 3, 5, 7)
    expected = torch.ops.aten.grid_sampler_2d_backward(grad, torch.zeros(2, 3, 6, 4), grid, 0, 0, True, (True, False))[
        0
    ]
    torch.testing.assert_close(spread_in_order(grad, grid, (6, 4)), expected)
