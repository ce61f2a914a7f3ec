"""Meshes become volumes, points on their surface, or pictures with poses."""

import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_pipelines.camera import DISTANCE, FIELD_OF_VIEW, axes, position
from data_pipelines.errors import DataError
from data_pipelines.fields.spec import FieldSpec
from data_pipelines.manifest import Manifest
from data_pipelines.prepare import mesh as meshes_read
from data_pipelines.prepare import open_source
from data_pipelines.prepare.mesh import Mesh, read_mesh
from data_pipelines.prepare.mesh_form import MeshForm, parse_range
from data_pipelines.prepare.rasterise import fill, render
from data_pipelines.prepare.run import PrepareOptions, prepare
from data_pipelines.protocol import Rejected
from data_pipelines.read import ShardDataset
from data_pipelines.verify import verify
from tests.conftest import ROOT

trimesh = pytest.importorskip("trimesh", reason="an environment of an older lock file")

TETRAHEDRON = (
    "v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\n",
    "f 1 3 2\nf 1 2 4\nf 1 4 3\nf 2 3 4\n",
)


def exported(mesh: Any, file_type: str) -> bytes:
    content = mesh.export(file_type=file_type)
    return content.encode() if isinstance(content, str) else content


def save(folder: Path, **files: Any) -> Path:
    """Write meshes, or bytes, as NAME_SUFFIX=…; `CLASS__NAME_SUFFIX` lies in a folder."""
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else exported(content, path.suffix[1:]))
    return folder


def made(source: Path, form: MeshForm, folder: Path | None = None) -> tuple[Manifest, dict[str, np.ndarray]]:
    """Prepare meshes in their own order; return the manifest and the fields."""
    folder = folder or source.with_name("set")
    prepare(open_source(str(source), meshes=form), folder, PrepareOptions(seed=None, resolution=form.resolution))
    assert verify(folder, deep=True) == []
    dataset = ShardDataset(folder)
    return dataset.manifest, dict(dataset.read(list(dataset.locations())))


def rejected(folder: Path) -> dict[str, tuple[str, str]]:
    lines = [json.loads(line) for line in (folder / "rejected.jsonl").read_text().splitlines()]
    return {line["source"]: (line["reason"], line["detail"]) for line in lines}


@pytest.mark.parametrize("file_type", ["obj", "ply", "stl", "off", "glb"])
def test_every_format_gives_the_same_volume(file_type: str) -> None:
    content = exported(trimesh.creation.box((2, 1, 1)), file_type)
    mesh = read_mesh(content, file_type)
    assert len(mesh.vertices) == 8
    assert len(mesh.faces) == 12


def test_a_cube_fills_all_voxels_but_those_at_the_border(tmp_path: Path) -> None:
    manifest, fields = made(save(tmp_path / "in", a_stl=trimesh.creation.box((5, 5, 5))), MeshForm(voxels=32))
    assert manifest.fields == {"array": FieldSpec("array", (1, 32, 32, 32), "float32", codec="npy")}
    expected = -np.ones((32, 32, 32), np.float32)
    expected[1:-1, 1:-1, 1:-1] = 1
    np.testing.assert_array_equal(fields["array"][0, 0], expected)
    assert manifest.protocol == "meshes as 32x32x32 voxels, 1 inside and -1 outside"


def test_a_tetrahedron_fills_a_sixth_of_its_cube_and_lies_the_right_way(tmp_path: Path) -> None:
    _, fields = made(save(tmp_path / "in", a_obj="".join(TETRAHEDRON).encode()), MeshForm(voxels=64))
    volume = fields["array"][0, 0] > 0
    assert volume.sum() == pytest.approx(62**3 / 6, rel=0.05)
    z, y, x = np.argwhere(volume).mean(0)  # the corner at the origin: least x and z, and below, where y is greatest
    assert x == pytest.approx(z, abs=0.1)
    assert x == pytest.approx(1 + 62 / 4, abs=0.5)
    assert y == pytest.approx(63 - 1 - 62 / 4, abs=0.5)


@pytest.mark.parametrize("flipped", [False, True])
def test_parts_that_overlap_are_filled_as_their_union(flipped: bool) -> None:
    one, other = trimesh.creation.box((2, 2, 2)), trimesh.creation.box((2, 2, 2))
    other.apply_translation((1, 0, 0))
    both = trimesh.util.concatenate([one, other])
    if flipped:
        both.invert()
    volume = fill(read_mesh(exported(both, "ply"), "ply"), 32)
    assert volume[:, :, 1:-1].any((0, 1)).all()
    assert volume[16, 16].sum() == 30


def test_triangles_that_face_either_way_are_filled_by_counting_them() -> None:
    vertices, faces = TETRAHEDRON
    straight, turned = (vertices + text for text in (faces, faces.replace("f 1 3 2", "f 1 2 3")))
    one, other = (fill(read_mesh(text.encode(), "obj"), 16) for text in (straight, turned))
    assert one.any()
    np.testing.assert_array_equal(one, other)


def test_points_lie_evenly_on_the_surface_in_the_ball(tmp_path: Path) -> None:
    mesh = trimesh.creation.box((4, 4, 2))
    mesh.apply_translation((7, 8, 9))
    manifest, fields = made(save(tmp_path / "in", a_ply=mesh), MeshForm(points=6000))
    points = fields["array"][0]
    assert manifest.fields["array"] == FieldSpec("array", (6000, 3), "float32", codec="npy")
    sides = np.array([2, 2, 1]) / 3
    on = np.isclose(np.abs(points), sides, atol=1e-6)
    assert on.any(1).all()
    assert (np.abs(points) < sides + 1e-6).all()
    areas = np.array([4 * 2, 4 * 2, 4 * 4]) / 32
    np.testing.assert_allclose(on.mean(0), areas, atol=0.03)
    assert np.abs(points.mean(0)).max() < 0.03


def test_a_view_shows_the_silhouette_of_the_shape(tmp_path: Path) -> None:
    form = MeshForm(views=3, resolution=(64, 64), pitch=(0.2, 0.4))
    manifest, fields = made(save(tmp_path / "in", a_obj=trimesh.creation.icosphere(4)), form)
    assert {name: (spec.kind, spec.shape) for name, spec in manifest.fields.items()} == {
        "image": ("image", (3, 64, 64)),
        "pose": ("array", (2,)),
    }
    assert "3 views of each mesh" in manifest.protocol
    yaw, pitch = fields["pose"].T
    assert len(set(yaw)) == 3
    assert ((pitch >= 0.2) & (pitch <= 0.4)).all()
    radius = 32 * np.tan(np.arcsin(1 / DISTANCE)) / np.tan(FIELD_OF_VIEW / 2)
    row, column = np.mgrid[:64, :64] + 0.5 - 32
    distance = np.hypot(row, column)
    for picture in fields["image"]:
        white = (picture == 255).all(0)
        assert white[distance > radius + 1].all()
        assert not white[distance < radius - 1].any()


def test_a_pose_tells_where_the_corners_of_a_shape_are_seen() -> None:
    """The only part that is red is where the camera's axes say."""
    corners = np.array([[-1, -1, -1], [1, -1, -1], [1, 1, -1], [1, 1, 1]]) / 3**0.5
    faces = np.array([[0, 1, 2], [0, 1, 3], [1, 2, 3], [0, 2, 3]])
    tip = np.array([0.55, 0.56, 0.57])
    vertices = np.concatenate([corners, tip + 0.05 * np.eye(3)])
    colours = np.repeat(np.array([[0.2, 0.2, 0.2]] * 4 + [[1.0, 0, 0]])[:, None], 3, axis=1)
    mesh = Mesh(vertices, np.concatenate([faces, [[4, 5, 6]]]), colours)
    for pose in ([0.0, 0.0], [0.9, 0.3], [0.3, 0.7]):
        picture = render(mesh, pose, 64, 64).astype(int)
        rows, columns = np.nonzero(picture[0] > picture[1] + 60)
        x, y, z = axes(pose) @ (vertices[4:].mean(0) - position(pose))
        scale = 32 / np.tan(FIELD_OF_VIEW / 2) / z
        assert columns.mean() + 0.5 == pytest.approx(32 + scale * x, abs=0.6)
        assert rows.mean() + 0.5 == pytest.approx(32 - scale * y, abs=0.6)


def test_what_is_nearer_hides_what_is_behind_and_colours_are_those_of_the_file() -> None:
    box = trimesh.creation.box()
    box.visual.face_colors = [[0, 0, 255, 255] if normal[2] > 0.5 else [255, 0, 0, 255] for normal in box.face_normals]
    front = render(read_mesh(exported(box, "ply"), "ply").in_ball(), [0.0, 0.0], 32, 32)
    assert front[2, 16, 16] > 100
    assert front[0, 16, 16] == 0
    behind = render(read_mesh(exported(box, "ply"), "ply").in_ball(), [np.pi, 0.0], 32, 32)
    assert behind[0, 16, 16] > 80
    assert behind[2, 16, 16] == 0


def test_colours_of_vertices_are_read_and_materials_of_glb() -> None:
    box = trimesh.creation.box()
    box.visual = trimesh.visual.ColorVisuals(vertex_colors=np.full((8, 4), (255, 0, 51, 255), np.uint8))
    painted = trimesh.creation.box()
    material = trimesh.visual.material.PBRMaterial(baseColorFactor=[255, 0, 51, 255])
    painted.visual = trimesh.visual.TextureVisuals(material=material)
    for mesh, file_type in ((box, "obj"), (box, "ply"), (box, "glb"), (painted, "glb")):
        colours = read_mesh(exported(mesh, file_type), file_type).colours
        assert np.unique(colours.reshape(-1, 3), axis=0).tolist() == [[1.0, 0.0, 0.2]]


@pytest.mark.parametrize(
    "form",
    [MeshForm(voxels=8), MeshForm(points=50), MeshForm(views=2, resolution=(8, 8))],
    ids=["voxels", "points", "views"],
)
def test_the_same_command_makes_the_same_bits_and_classes_are_folders(tmp_path: Path, form: MeshForm) -> None:
    box, ball = trimesh.creation.box(), trimesh.creation.icosphere(1)
    source = save(tmp_path / "in", box__a_obj=box, box__b_obj=box, ball__a_obj=ball)
    first, fields = made(source, form)
    again, _ = made(source, form, tmp_path / "again")
    assert again.digest == first.digest
    assert first.fields["class"].classes == ("ball", "box")
    samples = (form.views or 1) * 3
    assert fields["class"].tolist() == [0] * (samples // 3) + [1] * (2 * samples // 3)
    if not form.voxels:  # files of equal content get their own points and cameras
        assert (fields["pose" if form.views else "array"][-1] != fields["pose" if form.views else "array"][-2]).any()


def test_the_solids_of_the_script_are_closed_and_have_two_colours(tmp_path: Path) -> None:
    script = [sys.executable, str(ROOT / "scripts" / "solids.py"), str(tmp_path), "--meshes", "--each", "1"]
    subprocess.run(script, check=True, capture_output=True)
    files = sorted(tmp_path.glob("*/00000.ply"))
    assert [file.parent.name for file in files] == ["ball", "box", "cone", "cylinder", "ring"]
    for file in files:
        mesh = read_mesh(file.read_bytes(), "ply")
        assert fill(mesh, 16).any()
        assert len(np.unique(mesh.colours.reshape(-1, 3), axis=0)) == 2


def test_meshes_in_a_zip_are_found(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        archive.writestr("shapes/a.off", exported(trimesh.creation.box(), "off"))
    _, fields = made(tmp_path / "in.zip", MeshForm(points=8))
    assert fields["array"].shape == (1, 8, 3)


def test_what_cannot_be_a_sample_is_listed_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meshes_read, "LARGEST", 1000)
    vertices, faces = TETRAHEDRON
    source = save(
        tmp_path / "in",
        good_obj=(vertices + faces).encode(),
        huge_obj=trimesh.creation.icosphere(4),
        open_obj=(vertices + faces[:-8]).encode(),
        text_obj=b"no mesh",
        text_glb=b"no mesh",
        text_off=b"",
        cut_ply=exported(trimesh.creation.icosphere(1), "ply")[:900],
        points_ply=exported(trimesh.PointCloud(np.eye(3)), "ply"),
        flat_obj=b"v 0 0 0\nv 1 1 1\nv 2 2 2\nf 1 2 3\n",
        inf_obj=b"v 0 0 0\nv 1 1 inf\nv 2 0 2\nf 1 2 3\n",
    )
    (source / "gone.obj").symlink_to("nowhere.obj")
    manifest, _ = made(source, MeshForm(voxels=8))
    assert manifest.count == 1
    found = rejected(tmp_path / "set")
    assert {name: reason for name, (reason, _) in found.items()} == {
        "huge.obj": "large",
        "open.obj": "open",
        "text.obj": "empty",
        "text.glb": "unreadable",
        "text.off": "unreadable",
        "cut.ply": "unreadable",
        "points.ply": "empty",
        "flat.obj": "empty",
        "inf.obj": "unreadable",
        "gone.obj": "missing",
    }
    assert found["open.obj"][1].startswith("not watertight: 3 edges belong to an odd number of triangles")
    assert found["huge.obj"][1] == "5,120 triangles, the limit is 1,000"


def test_an_open_mesh_has_a_surface(tmp_path: Path) -> None:
    vertices, faces = TETRAHEDRON
    _, fields = made(save(tmp_path / "in", a_obj=(vertices + faces[:-8]).encode()), MeshForm(points=8))
    assert np.isfinite(fields["array"]).all()


def test_a_mesh_does_not_make_its_reader_open_other_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vertices, faces = TETRAHEDRON
    (tmp_path / "in").mkdir()
    (tmp_path / "secret.mtl").write_text("newmtl a\nKd 1 0 0\nmap_Kd secret.png\n")
    text = f"mtllib {tmp_path}/secret.mtl\nusemtl a\n{vertices}{faces}".encode()
    opened: list[str] = []
    true_open = io.open
    monkeypatch.setattr(
        "builtins.open", lambda file, *args, **kwargs: opened.append(str(file)) or true_open(file, *args, **kwargs)
    )
    mesh = read_mesh(text, "obj")
    assert not [name for name in opened if "secret" in name]
    assert np.ptp(mesh.colours) == 0


def test_a_file_of_many_copies_of_a_mesh_is_refused_before_it_is_unfolded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meshes_read, "LARGEST", 100)
    scene = trimesh.Scene()
    box = trimesh.creation.box()
    scene.add_geometry(box, geom_name="box")
    for number in range(20):
        scene.graph.update(f"copy{number}", matrix=np.eye(4), geometry="box")
    with pytest.raises(Rejected, match=r"\d+ triangles, the limit is 100"):
        read_mesh(scene.export(file_type="glb"), "glb")


@pytest.mark.parametrize(
    ("form", "words"),
    [
        (MeshForm(), "meshes need one of --voxels 32 .*; given: none"),
        (MeshForm(voxels=8, points=8), "given: --voxels and --points"),
        (MeshForm(voxels=3), "--voxels 3: expected 4 or more"),
        (MeshForm(points=0), "--points 0: expected 1 or more"),
        (MeshForm(voxels=5000), "--voxels 5000: expected 4 or more, and samples of at most"),
        (MeshForm(views=2), "--views needs the pictures' size"),
        (MeshForm(points=2, resolution=(8, 8)), "--resolution, --yaw and --pitch are for --views"),
        (MeshForm(views=2, resolution=(8, 8), pitch=(0, 2)), "--pitch 0,2: expected two ascending angles in radians"),
        (MeshForm(views=2, resolution=(8, 8), yaw=(1, -1)), "--yaw 1,-1: expected two ascending angles"),
    ],
)
def test_a_form_that_makes_no_sense_is_one_line(tmp_path: Path, form: MeshForm, words: str) -> None:
    save(tmp_path / "in", a_obj=trimesh.creation.box())
    with pytest.raises(DataError, match=words) as answer:
        open_source(str(tmp_path / "in"), meshes=form)
    assert "\n" not in str(answer.value)


def test_options_of_meshes_are_refused_for_other_sources_and_ranges_are_parsed(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.zeros((3, 2), np.float32))
    with pytest.raises(DataError, match="--voxels, --points, --views, --yaw and --pitch are for meshes"):
        open_source(str(tmp_path / "rows.npy"), meshes=MeshForm(points=3))
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="no meshes in it"):
        open_source(f"meshes:{tmp_path / 'none'}", meshes=MeshForm(points=3))
    assert parse_range("yaw", "-0.5,1") == (-0.5, 1.0)
    with pytest.raises(DataError, match="--yaw 1: expected the least and the greatest angle"):
        parse_range("yaw", "1")
