"""Triangle meshes: read from a file, and brought to a common place and size."""

import io
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_pipelines.errors import DataError, first_line
from data_pipelines.protocol import Rejected

Array = NDArray[np.float64]

LARGEST = 2_000_000
"""Triangles; a mesh of more is rejected."""

_GREY = 0.8
"""Colour of a shape whose file has no colours."""


@dataclass(frozen=True)
class Mesh:
    """A surface of triangles.

    Attributes:
        vertices: float64, shape [V, 3].
        faces: indices of each triangle's corners, int64, shape [T, 3].
        colours: RGB in [0, 1] of each triangle's corners, shape [T, 3, 3].
    """

    vertices: Array
    faces: NDArray[np.int64]
    colours: Array

    @property
    def corners(self) -> Array:
        """Where the corners of the triangles are, shape [T, 3, 3]."""
        corners: Array = self.vertices[self.faces]
        return corners

    def in_ball(self) -> "Mesh":
        """Return the mesh with the middle of its bounding box at the origin, scaled into the ball of radius 1."""
        centred = self._centred()
        return replace(self, vertices=centred / np.sqrt((centred**2).sum(1).max()))

    def in_cube(self) -> "Mesh":
        """Return the mesh with its bounding box in the middle of the cube [-1, 1]³, whose side is the box's longest."""
        centred = self._centred()
        return replace(self, vertices=centred / np.abs(centred).max())

    def _centred(self) -> Array:
        centred: Array = self.vertices - (self.vertices.min(0) + self.vertices.max(0)) / 2
        return centred


def read_mesh(content: bytes, file_type: str) -> Mesh:
    """Read a file; all its parts become one mesh. Nothing else is read that the file names, such as textures.

    Args:
        content: of the file.
        file_type: its extension without the dot.

    Raises:
        Rejected: it cannot be read, has no triangles, or too many.
    """
    trimesh = import_trimesh()
    try:
        scene = trimesh.load_scene(io.BytesIO(content), file_type=file_type, resolver=None, process=False)
        total = sum(
            len(getattr(scene.geometry[scene.graph[node][1]], "faces", ())) for node in scene.graph.nodes_geometry
        )
        if total > LARGEST:
            raise Rejected("large", f"{total:,} triangles, the limit is {LARGEST:,}")
        parts = [_as_mesh(part) for part in scene.dump(concatenate=False) if len(getattr(part, "faces", ()))]
    except Rejected:
        raise
    except Exception as error:  # whatever a damaged file leads the readers of five formats to
        raise Rejected("unreadable", f"cannot be read as a mesh ({first_line(error)})") from None
    if not parts:
        raise Rejected("empty", "no triangles")
    mesh = _joined(parts)
    if not np.isfinite(mesh.vertices).all():
        raise Rejected("unreadable", "some coordinates are no finite numbers")
    return _cleaned(mesh)


def _as_mesh(part: Any) -> Mesh:
    """Return a part that trimesh has read."""
    faces = np.asarray(part.faces, np.int64)
    if part.visual.kind == "vertex":
        colours = np.asarray(part.visual.vertex_colors)[faces]
    elif part.visual.kind == "face":
        colours = np.repeat(np.asarray(part.visual.face_colors)[:, None], 3, axis=1)
    elif part.visual.kind == "texture":
        colours = np.broadcast_to(part.visual.material.main_color, (len(faces), 3, 4))
    else:
        colours = np.full((len(faces), 3, 3), 255 * _GREY)
    return Mesh(np.asarray(part.vertices, np.float64), faces, np.asarray(colours[..., :3], np.float64) / 255)


def _joined(parts: list[Mesh]) -> Mesh:
    firsts = np.cumsum([0, *(len(part.vertices) for part in parts[:-1])])
    return Mesh(
        np.concatenate([part.vertices for part in parts]),
        np.concatenate([part.faces + first for part, first in zip(parts, firsts, strict=True)]),
        np.concatenate([part.colours for part in parts]),
    )


def _cleaned(mesh: Mesh) -> Mesh:
    """Return the mesh without vertices that no triangle has, and with vertices at the same place made one.

    Raises:
        Rejected: all triangles are points or lines.
    """
    used, numbers = np.unique(mesh.faces, return_inverse=True)
    vertices, same = np.unique(mesh.vertices[used], axis=0, return_inverse=True)
    faces = same.reshape(-1)[numbers.reshape(mesh.faces.shape)]
    proper = (faces != np.roll(faces, 1, axis=1)).all(1)
    if not proper.any() or areas(vertices[faces]).max() == 0:
        raise Rejected("empty", "no triangle has an area")
    return Mesh(vertices, faces[proper], mesh.colours[proper])


def areas(corners: Array) -> Array:
    """Return the areas of triangles, shape [T], from their corners [T, 3, 3]."""
    first, second, third = np.moveaxis(corners, 1, 0)
    found: Array = np.sqrt((np.cross(second - first, third - first) ** 2).sum(1)) / 2
    return found


def import_trimesh() -> Any:
    """Return the package that reads meshes.

    Raises:
        DataError: it is not installed.
    """
    try:
        import trimesh
    except ImportError:
        raise DataError("meshes need the package trimesh (pip install 'bigtrain[mesh]')") from None
    return trimesh
