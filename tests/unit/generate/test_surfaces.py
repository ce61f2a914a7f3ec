"""The surface of a volume as an OBJ file: closed, oriented, and the same volume when it is prepared as a mesh."""

from pathlib import Path

import numpy as np
import pytest

from bigtrain.generate.outputs import FORMATS, Samples
from bigtrain.generate.surfaces import obj_of
from data_pipelines.fields.spec import FieldSpec
from data_pipelines.prepare.mesh import read_mesh
from data_pipelines.prepare.rasterise import fill

RNG = np.random.default_rng(0)


def volume(solid: np.ndarray) -> np.ndarray:
    return np.where(solid, np.float32(0.7), np.float32(-1))[None]


def parsed(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    rows = [line.split() for line in content.decode().splitlines()]
    points = np.array([row[1:] for row in rows if row[0] == "v"], float).reshape(-1, 3)
    return points, np.array([row[1:] for row in rows if row[0] == "f"], int).reshape(-1, 4) - 1


@pytest.mark.parametrize("solid", [np.ones((1, 1, 1), bool), RNG.random((4, 5, 6)) > 0.6])
def test_the_enclosed_volume_is_the_number_of_voxels(solid: np.ndarray) -> None:
    points, faces = parsed(obj_of(volume(solid)))
    a, b, c, d = (points[faces[:, corner]] for corner in range(4))
    enclosed = sum((one * np.cross(two, three)).sum() / 6 for one, two, three in ((a, b, c), (a, c, d)))
    assert enclosed == pytest.approx(solid.sum())
    assert points.max(0).tolist() <= [solid.shape[2], solid.shape[1], solid.shape[0]]


def test_nothing_has_no_surface() -> None:
    assert obj_of(volume(np.zeros((2, 2, 2), bool))) == b""


def test_it_is_the_volume_when_it_is_prepared_as_a_mesh() -> None:
    pytest.importorskip("trimesh")
    solid = np.zeros((8, 8, 8), bool)
    solid[1:7, 2:6, 3:5], solid[1:3, 1:7, 1:7] = True, True
    mesh = read_mesh(obj_of(volume(solid)), "obj")
    assert (fill(mesh, 8) == solid).all()


def test_samples_of_volumes_have_both_files(tmp_path: Path) -> None:
    spec = FieldSpec("array", (1, 4, 4, 4), "float32", codec="npy")
    samples = Samples(tmp_path / "part", spec, [3], None, (), "a test", 1)
    FORMATS["folder"].begin(samples)
    sink = FORMATS["folder"].sink(samples)
    sink.put(range(1), volume(RNG.random((4, 4, 4)) > 0.5)[None], wait=True)
    sink.finish()
    FORMATS["folder"].finish(samples, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["seed0000003.npy", "seed0000003.obj"]
