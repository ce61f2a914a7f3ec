"""Labels and captions as others write them: tables, metadata beside images, Parquet and NumPy files with images."""

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from data_pipelines.errors import DataError
from data_pipelines.prepare import open_source
from data_pipelines.prepare.captions import TEXT
from data_pipelines.prepare.labels import as_classes, distinct_names
from data_pipelines.prepare.run import PrepareOptions, prepare
from data_pipelines.source import Source


def png(value: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((4, 4, 3), value, np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def seen(source: Source) -> list[tuple[int, str | None]]:
    """Return each image's first pixel and the name of its class, sorted."""
    found = []
    for item in source.items:
        content = source.read(item.where)
        value = Image.open(io.BytesIO(content)).getpixel((0, 0))[0] if isinstance(content, bytes) else content[0, 0, 0]
        found.append((int(value), source.classes[item.label] if item.label >= 0 else None))
    return sorted(found)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for number in range(4):
        (folder / f"caf\u00e9{number}.png").write_bytes(png(number))
    return folder


@pytest.mark.parametrize(
    ("labels", "indices", "classes"),
    [
        ([0, 2, 1], [0, 2, 1], ("0", "1", "2")),
        (["0", "2", "1"], [0, 2, 1], ("0", "1", "2")),
        (["0.0", "2.0", "1.0"], [0, 2, 1], ("0", "1", "2")),
        ([0.0, 2.0, 1.0], [0, 2, 1], ("0", "1", "2")),
        (["007", "010", "7"], [0, 2, 1], ("007", "7", "010")),
        (["1", "A", "0"], [1, 2, 0], ("0", "1", "A")),
        ([1, "A", "0"], [1, 2, 0], ("0", "1", "A")),
        ([True, False], [1, 0], ("false", "true")),
        ([b"a", " b\n"], [0, 1], ("a", "b")),
        ([7_000_001, 7_000_002], [0, 1], ("7000001", "7000002")),
        ([None, "", float("nan")], [], ()),
        ([-1, -1], [], ()),
        (["1.5", "0.5"], [1, 0], ("0.5", "1.5")),
    ],
)
def test_what_labels_mean(labels: list[object], indices: list[int], classes: tuple[str, ...]) -> None:
    assert as_classes(labels, "t.csv") == (indices, classes)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([0, -2], "one is -2, of row 1"),
        (["a", None, "b"], "1 of 3 samples have no label, the first is row 1"),
        ([[0, 1]], r"the label of row 0 is a list, \[0, 1\]"),
        ([{"a": 1}], "the label of row 0 is a mapping"),
        ([0.5], "the label of row 0 is no whole number, 0.5"),
    ],
)
def test_labels_that_are_none_are_told_with_their_row(labels: list[object], words: str) -> None:
    with pytest.raises(DataError, match=f"^t.csv: .*{words}"):
        as_classes(labels, "t.csv", "row {}".format)


def test_classes_of_one_name_are_told_apart() -> None:
    assert distinct_names(["crane", "tench", "crane"], ["n1", "n2", "n3"]) == ("crane (n1)", "tench", "crane (n3)")


ROWS = "file_name,label\n" + "".join(f"caf\u00e9{number}.png,{'ab'[number % 2]}\n" for number in range(4))
RIGHT = [(number, "ab"[number % 2]) for number in range(4)]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
@pytest.mark.parametrize("change", [str, lambda text: text.replace(",", ";"), lambda text: text.replace(",", "\t")])
def test_tables_of_every_making(folder: Path, encoding: str, change: object) -> None:
    path = folder / "t.csv"
    path.write_bytes(change(ROWS).replace("\n", "\r\n").encode(encoding))
    source = open_source(str(path))
    assert seen(source) == RIGHT
    assert any("Windows-1252" in note for note in source.notes) == (encoding == "cp1252")


@pytest.mark.parametrize("form", ["cafe\u0301{}.png", ".\\caf\u00e9{}.png", "{folder}/caf\u00e9{}.png"])
def test_paths_of_every_form(folder: Path, form: str) -> None:
    rows = [{"File Name": form.format(number, folder=folder), "Category": number} for number in range(4)]
    (folder / "t.jsonl").write_text("".join(json.dumps(row) + "\n\n" for row in rows))
    assert seen(open_source(str(folder / "t.jsonl"))) == [(number, str(number)) for number in range(4)]


def test_rows_that_repeat_are_counted_and_two_labels_refused(folder: Path) -> None:
    path = folder / "t.csv"
    path.write_text(ROWS + ROWS.splitlines()[1] + "\n")
    source = open_source(str(path))
    assert seen(source) == RIGHT
    assert source.left_aside.words == "1 rows that repeat another (row 6: caf\u00e90.png)"
    path.write_text(ROWS + "caf\u00e90.png,b\n")
    with pytest.raises(DataError, match="row 6: caf\u00e90.png has the label 'b', and 'a' in an earlier row"):
        open_source(str(path))


def test_a_column_is_named_and_what_is_not_taken_is_told(folder: Path) -> None:
    path = folder / "t.csv"
    path.write_text(ROWS.replace("label", "breed"))
    source = open_source(str(path))
    assert (source.classes, source.notes) == (
        (),
        (f"{path}: no column of labels was found; columns that are not used: breed (--label selects one)",),
    )
    assert seen(open_source(str(path), label="breed")) == RIGHT
    with pytest.raises(DataError, match="no column 'race' for --label; it has file_name, breed"):
        open_source(str(path), label="race")


@pytest.mark.parametrize("pack", [False, True])
@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl", "labels.csv"])
def test_tables_beside_images(tmp_path: Path, name: str, pack: bool) -> None:
    files = {f"set/images/{number}.png": png(number) for number in range(4)}
    rows = [
        {"file_name": f"images/{number}.png", "label": "ab"[number % 2], "text": f"t{number}"} for number in range(4)
    ]
    lines = ["file_name,label,text", *(",".join(row.values()) for row in rows)]
    files[f"set/{name}"] = "\n".join(map(json.dumps, rows) if name.endswith("l") else lines).encode()
    path = tmp_path / ("set.zip" if pack else "set")
    if pack:
        with zipfile.ZipFile(path, "w") as archive:
            for file, content in files.items():
                archive.writestr(file, content)
    else:
        for file, content in files.items():
            (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / file).write_bytes(content)
    source = open_source(str(path))
    assert seen(source) == RIGHT
    assert [item.fields[TEXT] for item in source.items] == [f"t{number}".encode() for number in range(4)]
    assert source.left_aside.total == 0


def test_a_table_beside_class_folders_is_told_of(tmp_path: Path) -> None:
    for number in range(4):
        (tmp_path / "ab"[number % 2]).mkdir(exist_ok=True)
        (tmp_path / "ab"[number % 2] / f"{number}.png").write_bytes(png(number))
    (tmp_path / "t.csv").write_text("path,label\nb/1.png,x\n")
    source = open_source(str(tmp_path))
    assert seen(source) == RIGHT
    assert "t.csv also lists the images, but was not used" in source.notes[0]


def test_a_table_of_unknown_columns_is_told_of_and_taken_on_request(tmp_path: Path) -> None:
    files = {"train/x0.png": png(0), "train/x1.png": png(1), "labels.csv": b"id,breed\nx0,a\nx1,b\n"}
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    (note,) = open_source(str(tmp_path)).notes
    assert "none of its columns is recognised as labels (id, breed); --label selects one" in note
    assert seen(open_source(str(tmp_path), label="breed")) == RIGHT[:2]
    with pytest.raises(DataError, match="no table beside the images has a column 'race' for --label"):
        open_source(str(tmp_path), label="race")
    with pytest.raises(DataError, match="none of the first 2 files that it lists exists"):
        open_source(str(tmp_path / "labels.csv"))


def hub(path: Path, labels: list[object], kind: object = None, **about: object) -> Path:
    image = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    schema = pyarrow.schema([("image", image), ("label", kind or pyarrow.int64()), ("caption", pyarrow.string())])
    features = {"label": {"names": ["cat", "dog", "cat"], "_type": "ClassLabel"}, **about}
    schema = schema.with_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    rows = [
        {"image": {"bytes": png(number), "path": None}, "label": label, "caption": f"t{number}"}
        for number, label in enumerate(labels)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema=schema), path, row_group_size=2)
    return path


def test_parquet_with_images_in_it(tmp_path: Path) -> None:
    place = tmp_path / "hub"
    hub(place / "data/train-00000-of-00001.parquet", [0, 1, 2])
    hub(place / "data/test-00000-of-00001.parquet", [1])
    (place / "README.md").write_text("# A set")
    train = open_source(str(place), split="train")
    assert seen(train) == [(0, "cat (0)"), (1, "dog"), (2, "cat (2)")]
    assert [item.fields[TEXT] for item in train.items] == [b"t0", b"t1", b"t2"]
    assert (
        train.left_aside.words == "1 files beside the shards (README.md); "
        "1 shards of other splits (data/test-00000-of-00001.parquet)"
    )
    assert len(open_source(f"huggingface:{place}").items) == 4
    out = tmp_path / "out"
    (manifest,) = prepare(train, out, PrepareOptions(), workers=2).values()
    assert (manifest.count, manifest.rejected, manifest.classes) == (3, 0, ("cat (0)", "dog", "cat (2)"))
    again = prepare(open_source(str(place), split="train"), out, PrepareOptions())  # the same source, laid out anew
    assert again == {out: manifest}


def test_parquet_that_does_not_say_its_labels(tmp_path: Path) -> None:
    path = hub(tmp_path / "x.parquet", [None, 1])
    with pytest.raises(DataError, match="1 of 2 samples have no label, the first is x.parquet row 0"):
        open_source(str(path))
    assert open_source(str(path), label="none").classes == ()


@pytest.mark.parametrize("shape", ["nhwc", "nchw", "nhw"])
@pytest.mark.parametrize("form", ["npy", "npz", "compressed npz"])
def test_images_as_numbers(tmp_path: Path, shape: str, form: str) -> None:
    images = np.arange(4, dtype=np.uint8)[:, None, None, None] + np.zeros((4, 5, 6, 3), np.uint8)
    images = {"nhwc": images, "nchw": np.ascontiguousarray(images.transpose(0, 3, 1, 2)), "nhw": images[..., 0].copy()}[
        shape
    ]
    path = tmp_path / ("x.npy" if form == "npy" else "x.npz")
    labels, names = np.array([0, 1, 0, 1]), np.array(["a", "b"])
    if form == "npy":
        np.save(path, images)
    elif form == "npz":
        np.savez(path, arr_0=images, labels=labels, class_names=names, seeds=np.arange(4))
    else:
        np.savez_compressed(path, images, labels)
    if form == "npy" and shape == "nhw":  # as likely a matrix of anything
        assert open_source(str(path)).first == "array"
        return
    source = open_source(str(path))
    wanted = {"npy": [None] * 4, "npz": ["a", "b"] * 2, "compressed npz": ["0", "1"] * 2}[form]
    assert seen(source) == list(enumerate(wanted))
    assert source.read(3).shape == ((1 if shape == "nhw" else 3), 5, 6)
    assert source.left_aside.total == (form == "npz")
    (manifest,) = prepare(source, tmp_path / "out", PrepareOptions()).values()
    assert (manifest.count, manifest.shape) == (4, source.read(0).shape)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"mu": np.zeros(3)}, r"no images in it: expected uint8.*found mu float64 \[3\]"),
        ({"arr_0": np.zeros((2, 4, 4, 3), np.float32)}, r"found arr_0 float32 \[2, 4, 4, 3\]"),
        ({"arr_0": np.array([{}])}, "Python objects, which are not loaded"),
    ],
)
def test_numbers_that_are_no_images_are_told(tmp_path: Path, arrays: dict[str, np.ndarray], words: str) -> None:
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(DataError, match=words):
        open_source(str(tmp_path / "x.npz"))
