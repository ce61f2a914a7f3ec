"""Cameras as 25 numbers, and the rays of their pixels.

The numbers are the matrix from camera to world, 4x4 in rows, and the matrix of the intrinsics, 3x3 in rows, for an
image whose height and width are 1, as Chan et al. 2022 write them. A camera looks along +z, x is to the right and y is
down; in the world, y is up.
"""

import math

import torch
from torch import Tensor

CAMERA = 25
"""Length of a camera's vector."""


def orbit_cameras(pose: Tensor, *, distance: float, field_of_view: float) -> Tensor:
    """Return cameras on a sphere that look at its centre.

    Args:
        pose: yaw and pitch in radians, shape [N, 2]. A yaw of 0 is on the positive z axis, a greater one is nearer to
            the positive x axis, a greater pitch is higher.
        distance: from the centre.
        field_of_view: of the whole image, in degrees.

    Returns:
        Shape [N, 25].
    """
    yaw, pitch = pose.unbind(1)
    zero, one = torch.zeros_like(yaw), torch.ones_like(yaw)
    backward = torch.stack([yaw.sin() * pitch.cos(), pitch.sin(), yaw.cos() * pitch.cos()], dim=1)
    right = torch.stack([yaw.cos(), zero, -yaw.sin()], dim=1)
    down = torch.linalg.cross(right, backward)
    columns = torch.stack([right, down, -backward, distance * backward], dim=2)
    bottom = torch.stack([zero, zero, zero, one], dim=1)[:, None]
    focal = 0.5 / math.tan(math.radians(field_of_view) / 2)
    intrinsics = torch.stack([one * value for value in (focal, 0, 0.5, 0, focal, 0.5, 0, 0, 1)], dim=1)
    return torch.cat([torch.cat([columns, bottom], dim=1).flatten(1), intrinsics], dim=1)


def rays_of(camera: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Return where the rays through the centres of an image's pixels begin, and their directions.

    Args:
        camera: shape [N, 25].
        height: of the image in pixels.
        width: of the image in pixels.

    Returns:
        Origins, shape [N, 3], and unit vectors, shape [N, height * width, 3].
    """
    camera = camera.float()
    to_world, intrinsics = camera[:, :16].reshape(-1, 4, 4), camera[:, 16:].reshape(-1, 3, 3)
    y, x = ((torch.arange(side, device=camera.device) + 0.5) / side for side in (height, width))
    v, u = torch.meshgrid(y, x, indexing="ij")
    focal_x, skew, centre_x = (intrinsics[:, 0, column, None] for column in range(3))
    focal_y, centre_y = (intrinsics[:, 1, column, None] for column in (1, 2))
    seen_y = (v.flatten() - centre_y) / focal_y
    seen_x = (u.flatten() - centre_x - skew * seen_y) / focal_x
    direction = torch.stack([seen_x, seen_y, torch.ones_like(seen_x)], dim=2) @ to_world[:, :3, :3].mT
    return to_world[:, :3, 3], torch.nn.functional.normalize(direction, dim=2)
