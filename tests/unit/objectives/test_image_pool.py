"""The history of generated images. That its exchanges are the reference's, tests/numerics tells."""

import pytest
import torch

from bigtrain.objectives.image_pool import ImagePool


def exchanged(pool: ImagePool, first: int, count: int) -> list[float]:
    """Give the pool the images `first`, `first` + 1, ... with numbers that are functions of these positions."""
    numbers = torch.Generator().manual_seed(0)
    uniform, index = torch.rand(100, generator=numbers), torch.randint(pool.capacity, (100,), generator=numbers)
    rows = slice(first, first + count)
    image = torch.arange(100.0)[rows].reshape(-1, 1, 1, 1).expand(-1, 3, 2, 2)
    return pool.exchange(image, uniform[rows], index[rows])[:, 0, 0, 0].tolist()


def test_it_fills_then_exchanges_about_half() -> None:
    pool = ImagePool(8)
    assert exchanged(pool, 0, 8) == list(range(8))
    returned = exchanged(pool, 8, 60)
    old = [image for position, image in enumerate(returned, 8) if image != position]
    assert 15 < len(old) < 45
    assert len(set(old)) == len(old), "an image that left the pool came back"
    assert any(image >= 8 for image in old), "no image that came in later was returned"


def test_the_size_of_a_batch_does_not_matter() -> None:
    whole, parts = ImagePool(5), ImagePool(5)
    expected = exchanged(whole, 0, 40)
    assert [image for first in range(0, 40, 4) for image in exchanged(parts, first, 4)] == expected


@pytest.mark.parametrize("seen", [0, 3, 20])
def test_it_goes_on_from_its_state(seen: int) -> None:
    pool, later = ImagePool(5), ImagePool(5)
    exchanged(pool, 0, seen)
    later.load_state_dict(pool.state_dict())
    assert exchanged(later, seen, 20) == exchanged(pool, seen, 20)


def test_what_is_returned_is_no_view_of_the_pool() -> None:
    pool = ImagePool(2)
    image = torch.zeros(2, 1, 1, 1)
    pool.exchange(image, torch.zeros(2), torch.zeros(2, dtype=torch.int64)).add_(1.0)
    image.add_(2.0)
    assert pool.state_dict()["images"].abs().max() == 0


def test_without_capacity_every_image_is_returned() -> None:
    pool, image = ImagePool(0), torch.randn(3, 1, 1, 1)
    assert torch.equal(pool.exchange(image, torch.ones(3), torch.zeros(3, dtype=torch.int64)), image)
    assert pool.state_dict() == {"images": None}
