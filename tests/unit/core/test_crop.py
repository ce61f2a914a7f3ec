import torch

from bigtrain.core.crop import center_crop, random_crop
from bigtrain.core.rng import Draws


def numbered(count: int, height: int, width: int) -> torch.Tensor:
    """Images whose pixels say where they are: channel 0 the row, channel 1 the column, channel 2 the image."""
    rows = torch.arange(height).reshape(1, -1, 1).expand(count, height, width)
    columns = torch.arange(width).reshape(1, 1, -1).expand(count, height, width)
    return torch.stack([rows, columns, torch.arange(count).reshape(-1, 1, 1).expand_as(rows)], dim=1)


def test_the_middle_is_kept() -> None:
    cut = center_crop(numbered(2, 7, 6), (4, 4))
    assert cut.shape == (2, 3, 4, 4)
    assert cut[:, 0, :, 0].tolist() == [[1, 2, 3, 4]] * 2
    assert cut[:, 1, 0].tolist() == [[1, 2, 3, 4]] * 2


def test_a_random_crop_is_a_window_of_its_own_image_at_every_place_that_fits() -> None:
    images, draws = numbered(500, 6, 5), Draws(0, torch.arange(500))
    cut = random_crop(images, (4, 3), draws)
    top, left = cut[:, 0, 0, 0], cut[:, 1, 0, 0]
    for number in range(500):
        window = images[number, :, top[number] : top[number] + 4, left[number] : left[number] + 3]
        assert torch.equal(cut[number], window)
    places = {(t, x) for t, x in zip(top.tolist(), left.tolist(), strict=True)}
    assert places == {(t, x) for t in range(3) for x in range(3)}
    assert torch.equal(
        random_crop(images[100:200], (4, 3), draws[slice(100, 200)]), cut[100:200]
    )  # any batch, any rank
