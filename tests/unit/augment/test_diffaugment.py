import pytest
import torch

from bigtrain.augment.diffaugment import DiffAugmentConfig, cut_out, jitter, translate
from bigtrain.core.rng import Draws

DRAWS = Draws(3, torch.arange(6), "d_main/augment_real")


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_keeps_shape_and_precision(channels: int, dtype: torch.dtype) -> None:
    images = torch.rand(6, channels, 16, 12, dtype=dtype)
    result = DiffAugmentConfig(kind="diffaugment").build()(images, DRAWS, torch.tensor(1.0))
    assert result.shape == images.shape and result.dtype == dtype
    assert all(not torch.equal(a, b) for a, b in zip(result, images, strict=True))


def test_happens_to_a_share_of_the_samples() -> None:
    draws = Draws(3, torch.arange(4000))
    images = torch.rand(4000, 1, 4, 4)
    changed = DiffAugmentConfig(kind="diffaugment").build()(images, draws, 0.3) != images
    assert changed.flatten(1).any(1).double().mean().item() == pytest.approx(0.3, abs=0.03)


def test_second_derivatives() -> None:
    augment = DiffAugmentConfig(kind="diffaugment").build()
    images = torch.randn(2, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: augment(x, DRAWS[:2], 1.0).square(), images)


def test_translation_moves_whole_pixels_and_fills_with_grey() -> None:
    images = torch.arange(1.0, 257).reshape(1, 1, 16, 16)
    furthest = translate(images, torch.tensor([[0.9999, 0.0]]))  # two rows down, two columns to the left
    assert torch.equal(furthest[..., 2:, :-2], images[..., :-2, 2:])
    assert not furthest[..., :2, :].any() and not furthest[..., -2:].any()
    assert torch.equal(translate(images, torch.tensor([[0.5, 0.5]])), images)


def test_cutout_blanks_a_square_of_half_the_side() -> None:
    images = torch.ones(3, 2, 8, 8)
    holes = cut_out(images, torch.tensor([[0.5, 0.5], [0.0, 0.0], [0.9999, 0.9999]])) == 0
    assert holes.sum((1, 2, 3)).tolist() == [2 * 16, 2 * 4, 2 * 4]
    assert holes[0, 0, 2:6, 2:6].all() and holes[1, 0, :2, :2].all() and holes[2, 0, 6:, 6:].all()


def test_jitter_in_its_middle_changes_nothing() -> None:
    images = torch.rand(2, 3, 4, 4)
    torch.testing.assert_close(jitter(images, torch.full((2, 3), 0.5)), images)
    grey = jitter(images, torch.tensor([[0.5, 0.0, 0.5]] * 2))
    torch.testing.assert_close(grey, images.mean(1, keepdim=True).expand_as(images))
