"""Lab and back: published values, the round trip, neutral colours, and gradients everywhere."""

import pytest
import torch

from bigtrain.ops.colour import lab_of, lightness_of, neutral_of, rgb_of

COLOURS = torch.rand(2, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize(
    ("rgb", "lab"),
    [
        ((1, 0, 0), (53.24, 80.09, 67.20)),
        ((0, 1, 0), (87.73, -86.18, 83.18)),
        ((0, 0, 1), (32.30, 79.19, -107.86)),
        ((1, 1, 1), (100.0, 0.0, 0.0)),
        ((0, 0, 0), (0.0, 0.0, 0.0)),
    ],
)
def test_the_corners_of_srgb_are_where_lindbloom_has_them(rgb: tuple[float, ...], lab: tuple[float, ...]) -> None:
    found = lab_of(torch.tensor(rgb, dtype=torch.float64).reshape(1, 3, 1, 1) * 2 - 1).flatten()
    torch.testing.assert_close(found, torch.tensor(lab, dtype=torch.float64), rtol=0, atol=0.01)


def test_there_and_back() -> None:
    torch.testing.assert_close(rgb_of(lab_of(COLOURS)), COLOURS, rtol=0, atol=1e-9)
    torch.testing.assert_close(rgb_of(lab_of(COLOURS.float())), COLOURS.float(), rtol=0, atol=1e-4)


def test_a_neutral_colour_is_as_light_as_the_colour() -> None:
    torch.testing.assert_close(lightness_of(neutral_of(COLOURS)), lightness_of(COLOURS), rtol=0, atol=1e-9)
    torch.testing.assert_close(lightness_of(COLOURS), lab_of(COLOURS)[:, :1], rtol=0, atol=1e-9)
    grey = neutral_of(COLOURS).expand(-1, 3, -1, -1)
    assert lab_of(grey)[:, 1:].abs().max() < 1e-9
    torch.testing.assert_close(neutral_of(grey), grey[:, :1], rtol=0, atol=1e-9)


def test_gradients_are_finite_in_the_dark_and_beyond_the_screen() -> None:
    dark = torch.full((1, 3, 1, 1), -1.0, requires_grad=True)
    lab_of(dark).sum().backward()
    beyond = torch.tensor([[0.0, 100.0, 50.0], [110.0, -110.0, 110.0]]).T.reshape(1, 3, 1, 2).requires_grad_()
    rgb_of(beyond).sum().backward()
    for found in (dark.grad, beyond.grad):
        assert found is not None and found.isfinite().all() and (found != 0).any()
