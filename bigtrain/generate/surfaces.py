"""Surfaces of volumes as Wavefront OBJ files, which viewers of 3-D models open."""

import numpy as np
from numpy.typing import NDArray

from data_pipelines.fields.kind import Value
from data_pipelines.fields.spec import FieldSpec

_SQUARE = np.array([(0, 0), (1, 0), (1, 1), (0, 1)])
"""Corners of a face, counter-clockwise about the axis that follows its two."""


def has_surface(spec: FieldSpec) -> bool:
    """Tell whether samples of a field are volumes of one channel, [1, D, H, W]."""
    return spec.kind == "array" and len(spec.shape) == 4 and spec.shape[0] == 1


def obj_of(volume: Value) -> bytes:
    """Return the OBJ file of the surface between voxels above 0 and all others: a square for each pair of neighbours.

    Its axes are those of `bigtrain data prepare --voxels`: z, y downwards, and x; a voxel is a unit cube.

    Args:
        volume: shape [1, D, H, W].
    """
    corners, faces = _squares(np.asarray(volume[0]) > 0)
    z, y, x = corners.T
    points = np.stack([x, volume.shape[2] - y, z], 1)
    lines = [f"v {a} {b} {c}" for a, b, c in points.tolist()]
    lines += [f"f {a} {b} {c} {d}" for a, b, c, d in (faces + 1).tolist()]
    return "\n".join([*lines, ""]).encode()


def _squares(solid: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return corners [V, 3] and faces [F, 4], which are counter-clockwise as seen from outside."""
    padded, found = np.pad(solid, 1), []
    for axis in range(3):
        for side in (0, 1):
            beside = np.roll(padded, 1 - 2 * side, axis)
            square = np.zeros((4, 3), np.int64)
            square[:, [(axis + 1) % 3, (axis + 2) % 3]] = _SQUARE if side else _SQUARE[::-1]
            square[:, axis] = side
            found.append((np.argwhere(padded & ~beside) - 1)[:, None] + square)
    corners, faces = np.unique(np.concatenate(found).reshape(-1, 3), axis=0, return_inverse=True)
    return corners, faces.reshape(-1, 4)
