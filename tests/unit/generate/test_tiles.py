"""Images in tiles: no seams where the surroundings suffice."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from bigtrain.generate.tiles import Tiling, in_tiles
from bigtrain.models.base import ImageSpec
from bigtrain.models.superresolution import SRResNetConfig


@pytest.mark.parametrize("size", [(40, 56), (16, 16), (33, 71)])
def test_an_enlarger_makes_the_same_image_in_tiles(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    low, high = ImageSpec(16, 3), ImageSpec(32, 3)
    network = SRResNetConfig(scale=2, width=8, blocks=1).build(low, high).double().eval()
    image = torch.rand(1, 3, *size, dtype=torch.float64) * 2 - 1
    with torch.inference_mode():
        whole = network(image)
        tiles = in_tiles(network, image, Tiling(16, 8))
        too_little = in_tiles(network, image, Tiling(16, 0))
    assert tiles.shape == whole.shape
    torch.testing.assert_close(tiles, whole, rtol=0, atol=1e-6)  # the last addition is float32
    assert size == (16, 16) or (too_little - whole).abs().max() > 1e-4


def test_every_pixel_is_kept_once_where_images_get_smaller() -> None:
    image = torch.arange(48.0 * 80).reshape(1, 1, 48, 80)

    def halve(part: Tensor) -> Tensor:
        return F.avg_pool2d(part, 2)

    torch.testing.assert_close(in_tiles(halve, image, Tiling(32, 8)), halve(image))


def test_sides_that_the_network_cannot_divide_are_named() -> None:
    Tiling(64, 32).check(32)
    with pytest.raises(ValueError, match="--overlap 16: this network needs multiples of 32"):
        Tiling(64, 16).check(32)
