"""Pictures and volumes of triangle meshes, computed with NumPy: no renderer and no GPU is needed."""

from collections.abc import Iterator
from math import tan
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from data_pipelines.camera import FIELD_OF_VIEW, axes, position
from data_pipelines.prepare.mesh import Array, Mesh
from data_pipelines.protocol import Rejected

_AT_ONCE = 2**18
"""Pairs of a triangle and a pixel that are looked at together; it bounds the memory."""

_LIGHT = np.array([0.5, 0.8, 0.6]) / np.sqrt(1.25)
"""Where the light comes from, in the world, as a unit vector."""

_AMBIENT = 0.4
"""Share of the light that comes from everywhere."""

_SAMPLES = 2
"""Per pixel, along each axis."""

_ASIDE = np.array([1.7e-5, 0.9e-5])
"""Of a voxel: how far the lines along which a volume is filled pass beside the voxels' centres.

The edges of many shapes pass exactly through the centres, where rounding would decide which side a centre is on.
"""


class Fragments(NamedTuple):
    """Pixels that triangles cover.

    Attributes:
        triangle: number of the triangle, shape [F].
        pixel: row * width + column, shape [F].
        weights: barycentric coordinates of the pixel's centre in the triangle, shape [F, 3].
    """

    triangle: NDArray[np.int64]
    pixel: NDArray[np.int64]
    weights: Array


def fragments(corners: Array, height: int, width: int) -> Iterator[Fragments]:
    """Yield the pixels whose centres lie in triangles, in pieces of bounded size.

    Args:
        corners: (x, y) of the triangles' corners in pixels, shape [T, 3, 2]; the first pixel's centre is (0.5, 0.5).
        height: of the picture.
        width: of the picture.
    """
    size = np.array([width, height])
    first = np.ceil(corners.min(1) - 0.5).clip(0, size).astype(np.int64)
    last = np.floor(corners.max(1) - 0.5).clip(-1, size - 1).astype(np.int64)
    extent = (last - first + 1).clip(0)
    counts = extent.prod(1)
    there = np.flatnonzero(counts)
    starts = np.concatenate([[0], np.cumsum(counts[there])])
    begin = 0
    while begin < len(there):
        end = max(begin + 1, int(np.searchsorted(starts, starts[begin] + _AT_ONCE, side="right")) - 1)
        chosen = there[begin:end]
        triangle = np.repeat(chosen, counts[chosen])
        number = np.arange(len(triangle)) - np.repeat(starts[begin:end] - starts[begin], counts[chosen])
        column = first[triangle, 0] + number % extent[triangle, 0]
        row = first[triangle, 1] + number // extent[triangle, 0]
        weights = _barycentric(corners[triangle], np.stack([column + 0.5, row + 0.5], axis=1))
        inside = (weights >= 0).all(1)
        yield Fragments(triangle[inside], (row * width + column)[inside], weights[inside])
        begin = end


def _barycentric(corners: Array, points: Array) -> Array:
    """Return the barycentric coordinates [F, 3] of points [F, 2] in triangles [F, 3, 2]; NaN in those without area."""
    sides = np.stack([_cross(corners[:, (i + 1) % 3] - points, corners[:, (i + 2) % 3] - points) for i in range(3)], 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        weights: Array = sides / sides.sum(1, keepdims=True)
    return weights


def _cross(one: Array, other: Array) -> Array:
    product: Array = one[:, 0] * other[:, 1] - one[:, 1] * other[:, 0]
    return product


def render(mesh: Mesh, pose: ArrayLike, height: int, width: int) -> NDArray[np.uint8]:
    """Return a picture of a mesh in the ball of radius 1, before white; RGB, uint8, shape [3, height, width].

    The surface is matt (Lambert's law) and lit from one side and, a little, from everywhere; the light stays where it
    is when the camera moves. Triangles are seen from both sides.

    Args:
        mesh: see `Mesh.in_ball`.
        pose: yaw and pitch of the camera in radians, see `data_pipelines.camera`.
        height: of the picture.
        width: of the picture.
    """
    rows, columns = _SAMPLES * height, _SAMPLES * width
    seen = (mesh.vertices - position(pose)) @ axes(pose).T
    scale = rows / 2 / tan(FIELD_OF_VIEW / 2)
    places = np.stack([columns / 2 + scale * seen[:, 0] / seen[:, 2], rows / 2 - scale * seen[:, 1] / seen[:, 2]], 1)
    owner, weights = _nearest(places[mesh.faces], 1 / seen[:, 2][mesh.faces], rows, columns)
    picture = np.ones((rows * columns, 3))
    hit = owner >= 0
    albedo = (weights[hit, :, None] * mesh.colours[owner[hit]]).sum(1)
    picture[hit] = albedo * _shade(mesh.corners, position(pose))[owner[hit], None]
    fine = picture.reshape(height, _SAMPLES, width, _SAMPLES, 3)
    levels: NDArray[np.uint8] = (255 * fine.mean((1, 3))).round().astype(np.uint8)
    return levels.transpose(2, 0, 1)


def _nearest(corners: Array, nearness: Array, height: int, width: int) -> tuple[NDArray[np.int64], Array]:
    """Return the triangle that is seen in each pixel, -1 for none, and where in it, as barycentric coordinates.

    Args:
        corners: in pixels, shape [T, 3, 2].
        nearness: 1 / depth of the corners, shape [T, 3], which is linear in the picture.
        height: of the picture.
        width: of the picture.
    """
    owner = np.full(height * width, -1)
    nearest = np.zeros(height * width)
    weights = np.zeros((height * width, 3))
    for piece in fragments(corners, height, width):
        parts = piece.weights * nearness[piece.triangle]
        near = parts.sum(1)
        order = np.lexsort((piece.triangle, -near, piece.pixel))
        first = order[np.diff(piece.pixel[order], prepend=-1) > 0]  # the nearest fragment of each pixel
        first = first[near[first] > nearest[piece.pixel[first]]]
        pixel = piece.pixel[first]
        owner[pixel], nearest[pixel] = piece.triangle[first], near[first]
        weights[pixel] = parts[first] / near[first, None]  # in space, not in the picture
    return owner, weights


def _shade(corners: Array, camera: Array) -> Array:
    """Return the brightness of triangles, shape [T]."""
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    lengths = np.sqrt((normals**2).sum(1))
    away = ((corners.mean(1) - camera) * normals).sum(1) > 0
    towards_light = (normals * _LIGHT).sum(1) * np.where(away, -1, 1) / np.maximum(lengths, 1e-300)
    brightness: Array = _AMBIENT + (1 - _AMBIENT) * towards_light.clip(0)
    return brightness


def fill(mesh: Mesh, size: int) -> NDArray[np.bool_]:
    """Return which voxels have their centre inside a closed mesh, shape [size, size, size].

    The longest side of the bounding box takes all voxels but one at each end. The axes are z, y downwards, and x, so
    that a slice looks like a picture taken from +Z. Where parts overlap, their union is filled, if the triangles of the
    mesh are oriented alike.

    Raises:
        Rejected: the mesh is open: an edge belongs to an odd number of triangles.
    """
    oriented = _check_closed(mesh.faces)
    corners = mesh.in_cube().corners * (size / 2 - 1) + size / 2  # in voxels
    corners[..., 1] = size - corners[..., 1]
    crossings = np.zeros((size * size, size + 1), np.int64)  # of each line along z, before each voxel
    for piece in fragments(corners[..., :2] + _ASIDE, size, size):
        depth = (piece.weights * corners[piece.triangle, :, 2]).sum(1)
        voxel = np.ceil(depth - 0.5).clip(0, size).astype(np.int64)
        flat = corners[piece.triangle, :, :2]
        sign = np.where(_cross(flat[:, 1] - flat[:, 0], flat[:, 2] - flat[:, 0]) > 0, 1, -1)
        np.add.at(crossings, (piece.pixel, voxel), sign if oriented else 1)
    passed = crossings.cumsum(1)[:, :size]
    inside: NDArray[np.bool_] = passed != 0 if oriented else passed % 2 == 1
    return inside.reshape(size, size, size).transpose(2, 0, 1)


def _check_closed(faces: NDArray[np.int64]) -> bool:
    """Return whether the triangles are oriented alike: each edge is passed as often in one direction as in the other.

    Raises:
        Rejected: some edges belong to an odd number of triangles.
    """
    edges = np.stack([faces, np.roll(faces, -1, axis=1)], axis=-1).reshape(-1, 2)
    number = np.sort(edges, axis=1) @ np.array([faces.max() + 1, 1])
    _, edge, counts = np.unique(number, return_inverse=True, return_counts=True)
    if odd := int((counts % 2).sum()):
        raise Rejected(
            "open", f"not watertight: {odd} edges belong to an odd number of triangles, so that it has no inside"
        )
    directions = np.bincount(edge.reshape(-1), np.where(edges[:, 0] < edges[:, 1], 1.0, -1.0))
    return not directions.any()
