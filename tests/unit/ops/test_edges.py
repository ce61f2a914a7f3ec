"""Canny's edges: those of OpenCV, of the known part of an image alone, and on a device that holds no values."""

import numpy as np
import pytest
import torch

from bigtrain.ops.edges import canny, edge_map, smoothed

FOUND_BY_OPENCV = """
......................#.
....................##..
.......#####......##....
.....##.....##..##......
....##.......##.........
....#.......#.#.........
...#......##............
...#....##...##.........
....#.##...##.#.........
....#....##...#.........
...#...##.....#.........
##..#.#.......#.......##
....##.......##......##.
.....#########.....##...
.................##.....
...............##.......
.............##.........
...........##...........
.........##.............
........#...............
"""
"""`cv2.Canny(picture(), 100, 260)` of OpenCV 5.0.0; with both thresholds at 260 it finds ten pixels fewer."""


def picture() -> torch.Tensor:
    """Return a ramp with a disc and stripes on it, shape [1, 1, 20, 24]."""
    y, x = np.mgrid[0:20, 0:24]
    values = 60 + 3 * x + (np.hypot(x - 9, y - 8) < 6) * 90 + ((x + 2 * y) % 23 < 5) * 45
    return torch.from_numpy(values.clip(0, 255)).float()[None, None]


def test_edges_are_those_of_opencv() -> None:
    found = canny(picture(), 100, 260)[0, 0]
    rows = ["".join("#" if edge else "." for edge in row) for row in found.tolist()]
    assert rows == FOUND_BY_OPENCV.split()


@pytest.mark.parametrize("sigma", [0.0, 1.0, 2.0])
def test_what_is_in_a_hole_and_its_border_make_no_edges(sigma: float) -> None:
    known = torch.ones(1, 1, 20, 24)
    known[..., 6:12, 8:15] = 0
    image = picture().expand(-1, 3, -1, -1) / 127.5 - 1
    black, white = (torch.where(known > 0, image, value) for value in (-1.0, 1.0))
    (edges, settled), (same, _) = (edge_map(one, sigma, 40, 80, known) for one in (black, white))
    assert settled is not None
    assert torch.equal(edges, same)
    assert torch.equal(settled, torch.nn.functional.max_pool2d(1 - known, 5, 1, 2) == 0)
    assert (edges[~settled] == -1).all()
    flat = torch.where(known > 0, 0.3, -1.0).expand(-1, 3, -1, -1)
    assert (edge_map(flat, sigma, 40, 80, known)[0] == -1).all()
    whole, none = edge_map(image, sigma, 40, 80)
    assert none is None
    assert (whole == 1).any()
    assert set(whole.unique().tolist()) == {-1.0, 1.0}


def test_a_blur_is_a_mean_of_what_is_known() -> None:
    image = torch.rand(2, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    assert torch.equal(smoothed(image, 0.0), image)
    constant = smoothed(torch.full_like(image, 7.0), 1.5, (image > 0.5).float())
    torch.testing.assert_close(constant, torch.full_like(image, 7.0))
    alone = torch.zeros(1, 1, 12, 12)
    alone[..., 3, 3] = 1
    assert smoothed(image[:1], 1.0, alone)[..., 4, 4].item() == pytest.approx(image[0, 0, 3, 3].item())


def test_it_needs_no_values() -> None:
    assert canny(smoothed(torch.empty(2, 1, 16, 16, device="meta"), 1.0), 25, 50).shape == (2, 1, 16, 16)
