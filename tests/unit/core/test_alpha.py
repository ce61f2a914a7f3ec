import pytest
import torch

from bigtrain.core.alpha import opaque


@pytest.mark.parametrize("channels", [1, 3])
def test_images_without_alpha_stay_as_they_are(channels: int) -> None:
    image = torch.randint(0, 256, (2, channels, 4, 5), dtype=torch.uint8)
    assert torch.equal(opaque(image), image)


@pytest.mark.parametrize("channels", [2, 4])
def test_what_is_transparent_is_white(channels: int) -> None:
    image = torch.randint(0, 256, (3, channels, 4, 5), dtype=torch.uint8)
    image[0, -1], image[1, -1], image[2] = 0, 255, 102
    laid = opaque(image)
    assert laid.shape == (3, channels - 1, 4, 5)
    assert (laid[0] == 255).all()
    assert torch.equal(laid[1], image[1, :-1])
    assert (laid[2] == round(102 * 0.4 + 255 * 0.6)).all()
