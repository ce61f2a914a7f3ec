"""The camera's convention, which pictures of meshes and networks that render share."""

from math import asin, pi

import numpy as np
import pytest

from data_pipelines.camera import DISTANCE, FIELD_OF_VIEW, axes, position


def test_yaw_moves_the_camera_from_z_towards_x_and_pitch_moves_it_up() -> None:
    poses = np.array([[0, 0], [pi / 2, 0], [pi, 0], [0, pi / 6]])
    expected = DISTANCE * np.array([[0, 0, 1], [1, 0, 0], [0, 0, -1], [0, 0.5, 3**0.5 / 2]])
    np.testing.assert_allclose(position(poses), expected, atol=1e-12)


def test_at_yaw_0_the_picture_shows_x_to_the_right_and_y_upwards() -> None:
    np.testing.assert_allclose(axes([0.0, 0.0]), [[1, 0, 0], [0, 1, 0], [0, 0, -1]], atol=1e-12)


@pytest.mark.parametrize("pose", [(0.3, 0.4), (-2.5, -1.2), (3.0, 1.5)])
def test_the_camera_looks_at_the_centre_and_is_upright(pose: tuple[float, float]) -> None:
    rotation = axes(pose)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(rotation @ -position(pose), [0, 0, DISTANCE], atol=1e-12)
    right, up, forward = rotation
    np.testing.assert_allclose(np.cross(up, -forward), right, atol=1e-12)
    assert right[1] == 0
    assert up[1] > 0


def test_the_ball_of_radius_1_fits_into_the_picture() -> None:
    assert 0.95 * FIELD_OF_VIEW < 2 * asin(1 / DISTANCE) < FIELD_OF_VIEW
