"""The camera of rendered shapes: one convention for the pictures of meshes and for networks that render.

A shape is centred, and scaled into the ball of radius 1. The camera stands on a sphere around the centre and looks at
it; +Y is up. A pose is a pair of angles in radians, (yaw, pitch). At yaw 0 the camera stands on the +Z axis, a positive
yaw moves it towards +X, and a positive pitch moves it up.

In the camera's own axes, x points to the right of the picture, y to its top, and z from the camera to the centre.
"""

from math import pi

import numpy as np
from numpy.typing import ArrayLike, NDArray

DISTANCE = 2.7
"""From the camera to the centre; what the camera sees lies between DISTANCE - 1 and DISTANCE + 1 of its z axis."""

FIELD_OF_VIEW = pi / 4
"""Radians from the lower to the upper edge of a picture.

The ball of radius 1 is seen under 2 * asin(1 / DISTANCE) = 43.5 degrees: it fits, with 3 percent to spare.
"""


def position(pose: ArrayLike) -> NDArray[np.float64]:
    """Return where the cameras stand, shape [..., 3], from poses [..., 2] of yaw and pitch in radians."""
    yaw, pitch = np.moveaxis(np.asarray(pose, np.float64), -1, 0)
    direction = [np.sin(yaw) * np.cos(pitch), np.sin(pitch), np.cos(yaw) * np.cos(pitch)]
    return DISTANCE * np.stack(direction, axis=-1)


def axes(pose: ArrayLike) -> NDArray[np.float64]:
    """Return the cameras' axes in the world: rotations [..., 3, 3] whose rows are right, up and forward.

    `axes(pose) @ (point - position(pose))` is a point in the camera's axes. The pitch must lie within (-pi/2, pi/2).

    Args:
        pose: yaw and pitch in radians, shape [..., 2].
    """
    yaw, pitch = np.moveaxis(np.asarray(pose, np.float64), -1, 0)
    forward = -position(pose) / DISTANCE
    right = np.stack([np.cos(yaw), np.zeros_like(yaw), -np.sin(yaw)], axis=-1)
    up = np.stack([-np.sin(yaw) * np.sin(pitch), np.cos(pitch), -np.cos(yaw) * np.sin(pitch)], axis=-1)
    return np.stack([right, up, forward], axis=-2)
