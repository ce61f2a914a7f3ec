"""Cameras, their rays, and what is seen along them."""

import math

import numpy as np
import pytest
import torch

from bigtrain.ops.cameras import orbit_cameras, rays_of
from bigtrain.ops.volume_rendering import composite, resampled, stratified


@pytest.mark.parametrize(
    ("pose", "place"),
    [
        ((0.0, 0.0), (0.0, 0.0, 2.0)),
        ((math.pi / 2, 0.0), (2.0, 0.0, 0.0)),
        ((0.0, math.pi / 6), (0.0, 1.0, math.sqrt(3))),
    ],
)
def test_a_camera_stands_where_its_pose_says_and_looks_at_the_centre(
    pose: tuple[float, float], place: tuple[float, ...]
) -> None:
    camera = orbit_cameras(torch.tensor([pose]), distance=2.0, field_of_view=60.0)
    origin, direction = rays_of(camera, 3, 3)
    torch.testing.assert_close(origin, torch.tensor([place]))
    torch.testing.assert_close(direction[:, 4], -origin / 2)
    torch.testing.assert_close(direction.norm(dim=2), torch.ones(1, 9))


def test_the_first_pixel_is_above_and_to_the_left() -> None:
    camera = orbit_cameras(torch.zeros(1, 2), distance=2.0, field_of_view=90.0)
    _, direction = rays_of(camera, 2, 2)
    x, y, z = (direction[0, 0] / direction[0, 0, 2].abs()).tolist()
    assert (x, y, z) == pytest.approx((-0.5, 0.5, -1.0))


def test_a_wide_image_has_the_rays_of_its_own_pixels() -> None:
    camera = orbit_cameras(torch.tensor([[0.3, 0.2]]), distance=2.0, field_of_view=60.0)
    _, wide = rays_of(camera, 2, 4)
    _, fine = rays_of(camera, 2, 2)
    between = torch.nn.functional.normalize(wide[0, 0] + wide[0, 1], dim=0)
    torch.testing.assert_close(between, fine[0, 0], atol=2e-2, rtol=0)


@pytest.mark.parametrize("density", [0.0, 0.7, 3.0])
def test_a_homogeneous_medium_absorbs_as_beer_and_lambert_say(density: float) -> None:
    near, far = torch.tensor([1.0]), torch.tensor([3.0])
    depth = stratified(near, far, torch.zeros(1, 1, 50))
    colour = torch.ones(1, 1, 50, 2)
    seen, weights = composite(torch.full((1, 1, 50), density), colour, depth, far)
    assert float(weights.sum()) == pytest.approx(1 - math.exp(-2 * density), abs=1e-5)
    torch.testing.assert_close(seen[0, 0], weights.sum().expand(2))


def test_the_nearest_wall_hides_the_others() -> None:
    depth = torch.tensor([[[1.0, 2.0, 3.0]]])
    density = torch.tensor([[[0.0, 100.0, 100.0]]])
    seen, _ = composite(density, torch.eye(3)[None, None], depth, torch.tensor([4.0]))
    torch.testing.assert_close(seen[0, 0], torch.tensor([0.0, 1.0, 0.0]))


def test_more_places_lie_where_the_weights_are() -> None:
    near, far = torch.tensor([1.0]), torch.tensor([3.0])
    weights = torch.tensor([[[0.0, 0.0, 1.0, 3.0]]])  # of [1, 1.5], [1.5, 2], [2, 2.5], [2.5, 3]
    places = resampled(near, far, weights, (torch.arange(1000) / 1000)[None, None])
    assert (places.diff(dim=2) >= 0).all()
    found, _ = np.histogram(places.numpy(), bins=[1.0, 1.5, 2.0, 2.5, 3.0])
    assert found.tolist() == pytest.approx([0, 0, 250, 750], abs=2)
    nothing = resampled(near, far, torch.zeros(1, 1, 4), torch.tensor([[[0.0, 0.5, 0.75]]]))
    torch.testing.assert_close(nothing, torch.tensor([[[1.0, 2.0, 2.5]]]))
