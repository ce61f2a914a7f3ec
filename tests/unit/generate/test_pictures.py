from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bigtrain.generate.pictures import at_most, captioned, image_grid, plot_curves


@pytest.mark.parametrize("channels", [1, 3])
def test_a_grid_holds_every_image_enlarged(channels: int) -> None:
    images = torch.randint(0, 255, (5, channels, 4, 4), dtype=torch.uint8)
    grid = image_grid(images, 3, width=48)
    assert grid.shape == (33, 48) if channels == 1 else (33, 48, 3)
    second = grid[3:15:3, 18:30:3]
    expected = images[1, 0].numpy() if channels == 1 else images[1].permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(second, expected)


def test_a_grid_of_transparent_images_is_a_grid_on_white() -> None:
    images = torch.randint(0, 255, (5, 4, 4, 6), dtype=torch.uint8)
    images[:, 3] = 0
    assert (image_grid(images, 3) == 255).all()


def test_curves_are_a_picture_with_a_panel_for_each_kind(tmp_path: Path) -> None:
    curve = [(1.0, 3.0), (2.0, 1.0)]
    plot_curves({"eval/fid": curve}, tmp_path / "one.png")
    plot_curves({"eval/fid": curve, "loss/d_main": curve, "logits/real_mean": curve}, tmp_path / "three.png")
    with Image.open(tmp_path / "one.png") as one, Image.open(tmp_path / "three.png") as three:
        assert three.width > 2.5 * one.width


def test_captions_stand_beside_the_grid_and_leave_it_as_it_is() -> None:
    grid = np.random.default_rng(0).integers(0, 255, (60, 90), dtype=np.uint8)
    sheet = captioned(grid, columns=["real", "fake"], rows=["Trouser", "Bag", "Ankle boot"])
    np.testing.assert_array_equal(sheet[-60:, -90:, 1], grid)
    assert sheet.shape[0] > 60
    assert sheet.shape[1] > 90 + 50
    assert (sheet[:, :-90] < 100).any()  # something is written there


def test_only_pictures_that_are_too_wide_shrink() -> None:
    grid = np.zeros((100, 400, 3), np.uint8)
    assert at_most(grid, 400) is grid
    assert at_most(grid, 200).shape == (50, 200, 3)
