"""Triangle meshes in a folder or a zip as volumes, clouds of points, or pictures with poses of the camera.

The classes are those that images would have. What is drawn at random, the points and the poses, depends on the file's
name alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_pipelines.errors import DataError
from data_pipelines.fields.npy import encode_npy
from data_pipelines.prepare.files import source_of
from data_pipelines.prepare.mesh import Array, Mesh, areas, import_trimesh, read_mesh
from data_pipelines.prepare.mesh_form import POSE, MeshForm, uniform
from data_pipelines.prepare.names import suffix_of
from data_pipelines.prepare.place import Place
from data_pipelines.prepare.rasterise import fill, render
from data_pipelines.protocol import ImageProtocol
from data_pipelines.source import Excerpt, Item, Lost, Reader, Source, Where, read_from

SUFFIXES = (".obj", ".ply", ".stl", ".off", ".glb")
"""Extensions of files that are taken for meshes."""


def names_of(place: Place) -> list[str]:
    """Return the names of the meshes in a folder or a zip, by their extensions."""
    return [name for name in place.listing.files if suffix_of(name) in SUFFIXES]


def from_meshes(place: Place) -> Source:
    """Return what is asked for of the meshes of a folder or a zip, with their classes.

    Volumes and points are the field `array`; views are the fields `image` and `pose`.

    Raises:
        DataError: no meshes, no such part, the form makes no sense, or it is unclear what their classes are.
    """
    form = place.meshes
    form.check()
    import_trimesh()
    names = names_of(place)
    if not names:
        raise DataError(f"{place.path}: no meshes in it ({', '.join(SUFFIXES)})")
    source = source_of(place, names)
    return replace(
        source,
        items=[one for item in source.items for one in _samples(item, form)],
        reader=MeshReader(source.reader, form),
        images=form.images,
        fields={**form.fields(), **source.fields},
        usual=ImageProtocol(*form.resolution, 3, crop="exact") if form.resolution else None,
        words=form.words,
        stamp=f"{source.stamp} {form}",
    )


def _samples(item: Item, form: MeshForm) -> Iterator[Item]:
    """Yield the samples of a file."""
    if isinstance(item.where, Lost):
        yield item
        return
    assert isinstance(item.where, str)
    if not form.views:
        yield item._replace(where=Excerpt(item.where, 0))
        return
    for number in range(form.views):
        pose: Where | bytes = encode_npy(form.pose(item.where, number))
        fields = {**item.fields, POSE: pose}
        yield item._replace(name=f"{item.name}[{number}]", where=Excerpt(item.where, number), fields=fields)


@dataclass(frozen=True)
class MeshReader:
    """Meshes as what is asked for.

    Attributes:
        reader: of the files, and of whatever else the samples have.
        form: what is asked for.
    """

    reader: Reader
    form: MeshForm

    def read(self, where: Where) -> bytes | NDArray[Any]:
        """Return a volume [1, D, H, W], points [N, 3], or a picture [3, H, W]; of other fields, what there is."""
        if not isinstance(where, Excerpt):
            return self.reader.read(where)
        form, name = self.form, str(where.where)
        content = read_from(self.reader, where.where)
        assert isinstance(content, bytes)
        mesh = read_mesh(content, suffix_of(name)[1:])
        if form.voxels:
            return np.where(fill(mesh, form.voxels), np.float32(1), np.float32(-1))[None]
        if form.points:
            draws = uniform(name, 3 * form.points).reshape(3, -1)
            return on_surface(mesh.in_ball(), draws).astype(np.float32)
        assert form.resolution is not None
        return render(mesh.in_ball(), form.pose(name, where.number), *form.resolution)


def on_surface(mesh: Mesh, draws: Array) -> Array:
    """Return points that are evenly distributed over the surface of a mesh, shape [N, 3].

    Args:
        mesh: a mesh.
        draws: uniform in [0, 1), shape [3, N].
    """
    until = np.cumsum(areas(mesh.corners))
    chosen = np.searchsorted(until, draws[0] * until[-1], side="right").clip(max=len(until) - 1)
    away, along = np.sqrt(draws[1]), draws[2]  # from the first corner, and on the side opposite to it (Turk 1990)
    weights = np.stack([1 - away, away * (1 - along), away * along], axis=1)
    points: Array = (weights[:, :, None] * mesh.corners[chosen]).sum(1)
    return points
