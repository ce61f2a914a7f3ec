"""Each kind of field comes back as it was stored, refuses what is damaged, and becomes what networks take."""

import contextlib
import io
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines.batches import BatchPlan
from data_pipelines.errors import DataError
from data_pipelines.fields import registry
from data_pipelines.fields.decoder import new_batch
from data_pipelines.fields.registry import check_spec, find_kind, kind_names, kind_of
from data_pipelines.fields.spec import FieldSpec
from data_pipelines.manifest import Manifest
from data_pipelines.plugins import load_plugins
from data_pipelines.prepare.arrays import from_fields
from data_pipelines.read import ShardDataset
from data_pipelines.stream import BatchStream
from data_pipelines.verify import verify
from data_pipelines.write import ShardOptions, write_shards

RNG = np.random.default_rng(7)


def noise(dtype: str, *shape: int) -> np.ndarray:
    return np.frombuffer(RNG.bytes(int(np.prod(shape)) * np.dtype(dtype).itemsize), dtype).reshape(shape).copy()


def texts(*words: str, size: int = 12) -> np.ndarray:
    return np.stack([np.frombuffer(word.encode().ljust(size, b"\0"), np.uint8) for word in words])


FIELDS: dict[str, tuple[FieldSpec, np.ndarray]] = {
    "png": (FieldSpec("image", (3, 6, 5), "uint8", codec="png"), noise("uint8", 4, 3, 6, 5)),
    "webp": (FieldSpec("image", (3, 6, 5), "uint8", codec="npy"), noise("uint8", 4, 3, 6, 5)),
    "grey16": (FieldSpec("image", (1, 6, 5), "uint16", codec="png"), noise("uint16", 4, 1, 6, 5)),
    "many16": (FieldSpec("image", (7, 6, 5), "uint16", codec="npy"), noise("uint16", 4, 7, 6, 5)),
    "many8": (FieldSpec("image", (9, 6, 5), "uint8", codec="npy"), noise("uint8", 4, 9, 6, 5)),
    "labels": (FieldSpec("classes", (3,), "float32", ("a", "b", "c"), codec="npy"), noise("float32", 4, 3)),
    "text": (FieldSpec("text", (12,), "uint8", codec="txt"), texts("a cat", "кот", "", "twelve bytes")),
    "half": (FieldSpec("array", (2, 3), "float16", codec="npy"), noise("float16", 4, 2, 3)),
    "truth": (FieldSpec("array", (5,), "bool", codec="npy"), noise("uint8", 4, 5) > 127),
    "number": (FieldSpec("array", (), "int64", codec="npy"), noise("int64", 4)),
    "wave": (FieldSpec("array", (2,), "complex64", codec="npy"), noise("complex64", 4, 2)),
    "ply": (FieldSpec("array", (6, 3), "float32", codec="ply"), noise("float32", 4, 6, 3)),
    "flac": (FieldSpec("audio", (2, 90), "int16", rate=8000, codec="flac"), noise("int16", 4, 2, 90)),
    "wav": (
        FieldSpec("audio", (1, 90), "float32", rate=44100, codec="wav"),
        noise("int16", 4, 1, 90) / np.float32(9e4),
    ),
    "film": (FieldSpec("video", (3, 3, 6, 8), "uint8", rate=25, codec="npy"), noise("uint8", 4, 3, 3, 6, 8)),
    "ffv1": (FieldSpec("video", (3, 3, 6, 8), "uint8", rate=25, codec="ffv1"), noise("uint8", 4, 3, 3, 6, 8)),
    "grey_ffv1": (FieldSpec("video", (2, 1, 6, 8), "uint8", rate=25, codec="ffv1"), noise("uint8", 4, 2, 1, 6, 8)),
}
LOSSLESS = sorted(FIELDS)


@pytest.mark.parametrize("name", LOSSLESS)
def test_what_is_stored_comes_back_bit_for_bit(name: str) -> None:
    spec, values = FIELDS[name]
    check_spec(spec)
    kind = kind_of(spec)
    files = [kind.encode(spec, value) for value in values]
    decoder = kind.decoder(spec)
    out = decoder.batch(len(values), memoryview(bytearray(decoder.bytes * len(values))))
    assert decoder.decode_many([memoryview(file) for file in files], out) == {}
    assert out.dtype == values.dtype
    assert out.tobytes() == values.tobytes()
    assert kind.read(spec, files[0]).tobytes() == values[0].tobytes()
    assert FieldSpec.parse(spec.document()) == spec


@pytest.mark.parametrize("name", LOSSLESS)
def test_a_damaged_file_is_an_error_and_spares_the_others(name: str) -> None:
    spec, values = FIELDS[name]
    kind = kind_of(spec)
    good = kind.encode(spec, values[0])
    bad = b"\xff\xfe" + good[2:] if spec.kind == "text" else good[: len(good) // 2]
    out = kind.decoder(spec).batch(2)
    errors = kind.decoder(spec).decode_many([memoryview(bad), memoryview(good)], out)
    assert list(errors) == [0]
    assert out[1].tobytes() == values[0].tobytes()


@given(st.sampled_from(LOSSLESS), st.binary(max_size=80))
def test_no_bytes_are_more_than_a_value_error(name: str, content: bytes) -> None:
    spec, values = FIELDS[name]
    kind = kind_of(spec)
    calls: list[Callable[[], Any]] = [
        lambda: kind.decoder(spec).decode(memoryview(content), np.empty_like(values[0, ...])),
        lambda: kind.read(spec, content),
        lambda: kind.probe(content),
    ]
    for call in calls:
        with contextlib.suppress(ValueError):
            call()


def test_h264_is_nearly_right() -> None:
    spec = FieldSpec("video", (4, 3, 32, 48), "uint8", rate=25, codec="h264")
    ramp = np.broadcast_to(np.arange(48, dtype=np.uint8) * 4, spec.shape).copy()
    out = np.empty(spec.shape, np.uint8)
    kind_of(spec).decoder(spec).decode(memoryview(kind_of(spec).encode(spec, ramp)), out)
    assert np.abs(out.astype(int) - ramp).mean() < 4


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("png", lambda values: values.float() / 127.5 - 1),
        ("grey16", lambda values: values.float() / 32767.5 - 1),
        ("film", lambda values: values.float() / 127.5 - 1),
        ("flac", lambda values: values.float() / 32768),
        ("wav", lambda values: values),
        ("half", lambda values: values),
        ("text", lambda values: values),
        ("labels", lambda values: values),
    ],
)
def test_fields_become_what_networks_take(name: str, expected: Callable[[torch.Tensor], torch.Tensor]) -> None:
    spec, values = FIELDS[name]
    batch = torch.from_numpy(values)
    tensor = kind_of(spec).normalise(spec, batch)
    assert tensor.dtype == expected(batch).dtype
    assert torch.equal(tensor.nan_to_num(), expected(batch).nan_to_num())


def test_the_ends_of_images_are_minus_one_and_one() -> None:
    for dtype, largest in (("uint8", 255), ("uint16", 65535)):
        spec = FieldSpec("image", (1, 1, 2), dtype, codec="npy")
        pixels = torch.from_numpy(np.array([[[[0, largest]]]], dtype))
        assert kind_of(spec).normalise(spec, pixels).flatten().tolist() == [-1.0, 1.0]


def test_people_s_files_are_fitted_or_refused() -> None:
    sound = find_kind("audio")
    spec, values = FIELDS["flac"]
    short = sound.encode(FieldSpec("audio", (2, 40), "int16", rate=8000, codec="wav"), values[0][:, :40])
    fitted = sound.read(spec, short)
    assert fitted[:, :40].tolist() == values[0][:, :40].tolist()
    assert not fitted[:, 40:].any()
    with pytest.raises(ValueError, match="2 channels at 9000 Hz, expected 2 at 8000 Hz"):
        sound.read(spec, sound.encode(FieldSpec("audio", (2, 90), "int16", rate=9000, codec="wav"), values[0]))
    labels = find_kind("classes").read(FIELDS["labels"][0], b'["c", "a"]')
    assert labels.tolist() == [1, 0, 1]
    assert find_kind("classes").read(FIELDS["labels"][0], b'{"b": 0.25}').tolist() == [0, 0.25, 0]
    with pytest.raises(ValueError, match="not a list of classes"):
        find_kind("classes").read(FIELDS["labels"][0], b'["z"]')
    big = np.arange(6, dtype=">f4").reshape(2, 3)
    stream = io.BytesIO()
    np.save(stream, np.asfortranarray(big))
    assert find_kind("array").read(FieldSpec("array", (2, 3), "float32", codec="npy"), stream.getvalue()).tolist() == (
        big.tolist()
    )


def test_objects_are_never_unpickled() -> None:
    stream = io.BytesIO()
    np.save(stream, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="pickle"):
        find_kind("array").probe(stream.getvalue())


def test_kinds_are_known_by_name() -> None:
    assert kind_names() == ("array", "audio", "class", "classes", "image", "text", "video")
    with pytest.raises(ValueError, match="kind 'smell' is not known: array, audio"):
        find_kind("smell")


STRANGER = """
from data_pipelines.fields.array import ArrayKind
from data_pipelines.fields.spec import FieldSpec

class Voxels(ArrayKind):
    name = "voxels"

    def check(self, spec: FieldSpec) -> None:
        super().check(spec)
        if len(set(spec.shape)) != 1:
            raise ValueError("voxels are cubes")
"""


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package that is installed and brings a kind."""
    (tmp_path / "strange_kinds.py").write_text(STRANGER)
    info = tmp_path / "strange_kinds-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: strange-kinds\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{registry.GROUP}]\nvoxels = strange_kinds:Voxels\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(registry.KINDS, "_foreign", None)
    load_plugins.cache_clear()
    yield
    load_plugins.cache_clear()


@pytest.mark.usefixtures("stranger")
def test_other_packages_bring_kinds(tmp_path: Path) -> None:
    assert "voxels" in kind_names()
    spec, cubes = FieldSpec("voxels", (4, 4, 4), "bool", codec="npy"), noise("uint8", 6, 4, 4, 4) > 127
    write_shards(from_fields("cubes", {"shape": cubes}, {"shape": spec}), tmp_path / "set")
    plan = BatchPlan(str(tmp_path / "set"), seed=0, global_batch=6, fields=("shape",))
    batches = []
    for loader in ("threads", "processes"):
        stream = BatchStream(plan, loader=loader)
        batches.append(next(stream).fields["shape"].copy())
        stream.close()
    assert batches[0].tobytes() == batches[1].tobytes()
    assert sorted(cube.tobytes() for cube in batches[0]) == sorted(cube.tobytes() for cube in cubes)
    flat = FieldSpec("voxels", (4, 4, 2), "bool", codec="npy")
    with pytest.raises(DataError, match="voxels are cubes"):
        write_shards(from_fields("flat", {"shape": cubes[..., :2]}, {"shape": flat}), tmp_path / "flat")


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set with every field of FIELDS, and a class."""
    folder = tmp_path_factory.mktemp("fields") / "set"
    specs = {name: spec for name, (spec, _) in FIELDS.items()}
    arrays = {name: values for name, (_, values) in FIELDS.items()}
    source = from_fields("everything", arrays, specs, [0, 1, 1, -1], classes=["a", "b"])
    write_shards(source, folder, ShardOptions(shard_samples=3))
    return folder


def test_a_set_of_every_kind_is_read(everything: Path) -> None:
    dataset = ShardDataset(everything)
    fields = dataset.read(list(dataset.locations()))
    assert fields.keys() == {*FIELDS, "class"}
    for name, (_, values) in FIELDS.items():
        assert fields[name].tobytes() == values.tobytes(), name
    assert fields["class"].tolist() == [0, 1, 1, -1]
    assert verify(everything, deep=True) == []
    with tarfile.open(everything / "shard-000000.tar") as tar:
        names = {name.partition(".")[2] for name in tar.getnames()}
    assert names == {
        "png", "npy", "cls", "txt", "wav", "flac", "ply", "grey16.png", "webp.npy", "many16.npy", "many8.npy",
        "labels.npy", "half.npy", "truth.npy", "number.npy", "wave.npy", "film.npy", "ffv1.mkv", "grey_ffv1.mkv",
    } - {"npy"}  # fmt: skip


@pytest.mark.parametrize("loader", ["threads", "processes"])
def test_a_plan_reads_the_fields_that_it_names(everything: Path, loader: Any) -> None:
    names = ("half", "text", "class", "ffv1")
    stream = BatchStream(BatchPlan(str(everything), seed=0, global_batch=4, fields=names), loader=loader)
    batch = next(stream)
    stream.close()
    assert tuple(batch.fields) == names
    order = [int(np.flatnonzero((text == FIELDS["text"][1]).all(1))[0]) for text in batch.fields["text"]]
    for name in ("half", "ffv1"):
        assert batch.fields[name].tobytes() == FIELDS[name][1][order].tobytes()


def test_a_field_that_is_not_there_is_said(everything: Path) -> None:
    with pytest.raises(DataError, match="set: has no field 'image'; its fields are png, webp"):
        BatchStream(BatchPlan(str(everything), seed=0, global_batch=4))


@pytest.mark.parametrize("name", ["png", "half", "text", "flac", "film"])
def test_damage_of_any_field_is_damage_of_the_sample(tmp_path: Path, name: str) -> None:
    (spec, values), (pixels, images) = FIELDS[name], FIELDS["png"]
    specs, arrays = {"image": pixels, name: spec}, {"image": images, name: values}
    write_shards(from_fields("two", arrays, specs), tmp_path / "set")
    row = np.load(tmp_path / "set" / "shard-000000.index.npy")[1]
    with (tmp_path / "set" / "shard-000000.tar").open("r+b") as file:
        file.seek(int(row[f"{name}.offset"]) + int(row[f"{name}.size"]) // 2)
        byte = file.read(1)[0]
        file.seek(-1, 1)
        file.write(bytes([byte ^ 255]))
    dataset = ShardDataset(tmp_path / "set")
    out = new_batch(dataset.decoders_of(("image", name)), 4)
    damaged = dataset.read_batch(list(dataset.locations()), out)
    assert list(damaged) == [1]
    fault = damaged[1].fault
    assert (fault.file, fault.row) == ("shard-000000.tar", 1)
    assert fault.problem == f"field '{name}': its bytes do not match their checksum"
    with pytest.raises(DataError, match=f"sample 1: field '{name}'"):
        next(BatchStream(BatchPlan(str(tmp_path / "set"), seed=0, global_batch=4, fields=("image", name))))
    replaced = BatchPlan(str(tmp_path / "set"), seed=0, global_batch=4, fields=("image", name), on_corrupt="replace")
    batch = next(BatchStream(replaced))
    for image, value in zip(batch.fields["image"], batch.fields[name], strict=True):
        number = int(np.flatnonzero((image == images).all((1, 2, 3)))[0])
        assert number != 1
        assert value.tobytes() == values[number].tobytes()
    assert [fault.row for fault in verify(tmp_path / "set", deep=True)] == [None, 1]


@pytest.mark.parametrize("worlds", [(2, 1, 4)])
def test_latents_of_16_channels_are_the_same_on_any_ranks(tmp_path: Path, worlds: tuple[int, ...]) -> None:
    latents = noise("float32", 24, 16, 4, 4)
    spec = FieldSpec("array", (16, 4, 4), "float32", codec="npy")
    manifest = write_shards(
        from_fields("latents", {"latent": latents}, {"latent": spec}), tmp_path / "set", ShardOptions(shard_samples=5)
    )
    assert Manifest.load(tmp_path / "set") == manifest
    plan = {"seed": 3, "global_batch": 8, "window": 2, "fields": ("latent",)}
    whole = BatchStream(BatchPlan(str(tmp_path / "set"), **plan))
    position, seen = 0, []
    for world in worlds:  # each goes on where the one before stopped, on another number of ranks
        ranks = [BatchStream(BatchPlan(str(tmp_path / "set"), rank=r, world_size=world, **plan)) for r in range(world)]
        for rank in ranks:
            rank.seek(position)
        for _ in range(2):
            parts = [next(rank).fields["latent"] for rank in ranks]
            batch = np.concatenate(parts)
            assert batch.tobytes() == next(whole).fields["latent"].tobytes()
            seen += [one.tobytes() for one in batch]
            position += 8
        for rank in ranks:
            rank.close()
    whole.close()
    assert sorted(seen) == sorted(one.tobytes() for one in latents for _ in range(2))
