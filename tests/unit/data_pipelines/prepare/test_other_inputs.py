"""Inputs of the kinds of issue 29 beyond the cases that were handed over: each is read, or told in one line."""

import io
import json
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from data_pipelines.errors import DataError
from data_pipelines.prepare import open_source
from data_pipelines.prepare.captions import TEXT
from data_pipelines.prepare.labels import as_classes
from data_pipelines.prepare.run import PrepareOptions, frames_note, prepare
from data_pipelines.protocol import Rejected
from data_pipelines.source import Source
from tests.unit.data_pipelines.prepare.test_tables import png

IMAGES = np.stack([np.full((4, 4, 3), value, np.uint8) for value in range(6)])
CLASSES = np.arange(6) % 3


def labelled(source: Source) -> list[str | None]:
    return [source.classes[item.label] if item.label >= 0 else None for item in source.items]


def told(place: Path, words: str, **options: Any) -> None:
    with pytest.raises(DataError, match=words) as error:
        open_source(str(place), **options)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 600


def test_numbers_beyond_floats_stay_apart() -> None:
    large = 2**53
    assert as_classes([large, str(large + 1), f"{large + 2}.0"], "t.csv")[1] == tuple(
        str(large + more) for more in range(3)
    )


@pytest.mark.parametrize("value", ["nan", "NaN", "<NA>", "N/A"])
def test_what_programs_write_for_nothing_is_no_class(value: str) -> None:
    with pytest.raises(DataError, match=r"t.csv: 1 of 3 samples have no label, the first is sample 1"):
        as_classes(["1", value, "0"], "t.csv")


def test_measurements_are_no_classes() -> None:
    values = [str(0.25 * number) for number in range(20)]
    with pytest.raises(DataError, match=r"the label of sample 1 is no whole number, 0.25; .*--label none"):
        as_classes(values, "t.csv")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(png(number))
    return tmp_path / "t.csv"


def test_excels_line_of_the_separator_is_read(table: Path) -> None:
    table.write_text("sep=;\nfile;label;score\n0.png;a;0,5\n1.png;b;0,25\n2.png;a;1,0\n", encoding="utf-8-sig")
    assert labelled(open_source(str(table))) == ["a", "b", "a"]


def test_a_workbook_is_told(table: Path) -> None:
    with zipfile.ZipFile(table, "w") as workbook:
        workbook.writestr("xl/workbook.xml", "<x/>")
    told(table, r"t.csv: is a workbook \(.xlsx\).*CSV, UTF-8")
    told(table.rename(table.with_suffix(".xlsx")), "is a workbook, which is not supported; .*CSV, UTF-8")


def test_a_set_that_says_it_has_no_labels_has_no_classes(tmp_path: Path) -> None:
    """Sets of the StyleGAN tools without labels: the folders only keep directories small."""
    for number in range(4):
        file = tmp_path / f"0000{number // 2}" / f"img0000000{number}.png"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(png(number))
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": None}))
    assert labelled(open_source(str(tmp_path))) == [None] * 4


def test_links_that_lead_to_themselves_are_no_end(tmp_path: Path) -> None:
    for name in ("cat/0.png", "dog/0.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(png(1))
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "cat" / "turn.png").symlink_to("turn.png")
    source = open_source(str(tmp_path))
    assert labelled(source) == ["cat", "cat", "dog"]
    with pytest.raises(Rejected):
        source.read(source.items[1].where)
    assert "loop" in source.left_aside.words


def test_empty_classes_of_a_tar_are_told(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "t.tar", "w") as tar:
        for name in ("set", "set/bird", "set/.cache"):
            folder = tarfile.TarInfo(name)
            folder.type = tarfile.DIRTYPE
            tar.addfile(folder)
        for name in ("set/cat/0.png", "set/dog/0.png"):
            member = tarfile.TarInfo(name)
            member.size = len(png(1))
            tar.addfile(member, io.BytesIO(png(1)))
    source = open_source(str(tmp_path / "t.tar"))
    assert source.classes == ("cat", "dog")
    assert [note for note in source.notes if "(bird)" in note and "no images" in note]


def test_an_encrypted_zip_is_told(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.writestr("cat/0.png", png(1))
    content = bytearray((tmp_path / "z.zip").read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1  # the flag of the directory's entry
    (tmp_path / "z.zip").write_bytes(bytes(content))
    told(tmp_path / "z.zip", "is encrypted; unpack it with its password")


@pytest.mark.parametrize(
    ("labels", "words"),
    [(np.arange(5), r"arr_1 int64 \[5\] is not one label"), (np.eye(6)[:, :3], r"float64 \[6, 3\] .*--label none")],
)
def test_labels_that_are_not_one_an_image_are_told(tmp_path: Path, labels: np.ndarray, words: str) -> None:
    np.savez(tmp_path / "s.npz", arr_0=IMAGES, arr_1=labels)
    told(tmp_path / "s.npz", words)
    assert labelled(open_source(str(tmp_path / "s.npz"), label="none")) == [None] * 6


def test_a_column_of_labels_is_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "s.npz", arr_0=IMAGES, arr_1=CLASSES[:, None])
    assert labelled(open_source(str(tmp_path / "s.npz"))) == list("012012")


def test_arrays_called_by_parts_are_parts(tmp_path: Path) -> None:
    parts = {"train_images": IMAGES, "train_labels": CLASSES[:, None], "val_images": IMAGES[:2], "val_labels": [1, 2]}
    np.savez(tmp_path / "s.npz", **{name: np.asarray(array) for name, array in parts.items()})
    told(tmp_path / "s.npz", "contains train, val; choose a split with --split")
    told(tmp_path / "s.npz", "has no split 'test' of its own; it has train, val", split="test")
    assert labelled(open_source(str(tmp_path / "s.npz"), split="train")) == list("012012")
    assert labelled(open_source(str(tmp_path / "s.npz"), split="val")) == ["1", "2"]
    np.savez(tmp_path / "train.npz", train_images=IMAGES, train_labels=CLASSES)
    source = open_source(str(tmp_path / "train.npz"))
    assert (labelled(source), source.left_aside.total) == (list("012012"), 0)
    np.savez(tmp_path / "keras.npz", x_train=IMAGES, y_train=CLASSES, x_test=IMAGES[:1], y_test=[2])
    assert labelled(open_source(str(tmp_path / "keras.npz"))) == list("012012")
    assert labelled(open_source(str(tmp_path / "keras.npz"), split="test")) == ["2"]


@pytest.mark.parametrize("dtype", [np.float32, np.uint16])
def test_images_of_other_numbers_are_told_with_a_way_on(tmp_path: Path, dtype: Any) -> None:
    np.savez(tmp_path / "s.npz", arr_0=IMAGES.astype(dtype))
    told(tmp_path / "s.npz", r"expected uint8.*found arr_0.*; of values from 0 to .*save .*astype\('uint8'\)")


def test_one_image_is_no_row_of_arrays(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", IMAGES[0])
    told(tmp_path / "one.npy", r"contains one image of 4x4x3, or 4 arrays; .*pixels:.* and arrays:")
    np.save(tmp_path / "floats.npy", IMAGES / 255)
    assert "kept as arrays" in open_source(str(tmp_path / "floats.npy")).notes[0]


def rows(path: Path, names: list[str], paths: list[str]) -> None:
    image = pyarrow.array(
        [{"bytes": None, "path": one} for one in paths],
        pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())]),
    )
    features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
    known = {"huggingface": json.dumps({"info": {"features": features}})}
    table = pyarrow.table({"image": image, "label": list(range(len(paths)))})
    pyarrow.parquet.write_table(table.replace_schema_metadata(known), path)


def test_parquet_names_no_files_outside(tmp_path: Path) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir()
    for place in (folder / "a.png", tmp_path / "private.png"):
        place.write_bytes(png(1))
    rows(folder / "p.parquet", ["a", "b", "c"], ["a.png", "../private.png", str(tmp_path / "private.png")])
    source = open_source(str(folder / "p.parquet"))
    assert source.read(source.items[0].where) == png(1)
    for item in source.items[1:]:
        with pytest.raises(Rejected, match="outside: .* points outside of the folder"):
            source.read(item.where)


def test_shards_whose_indices_mean_other_classes_are_told(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(png(1))
    for number, names in enumerate((["cat", "dog"], ["dog", "cat"])):
        rows(tmp_path / f"{number}.parquet", names, ["x.jpg"] * 2)
    (tmp_path / "x.jpg").rename(tmp_path.parent / "x.jpg")  # a folder of images would be one
    told(tmp_path, r"1.parquet: its classes are dog, cat, those of the files before are cat, dog; .*--label none")


def test_frames_that_are_not_taken_are_told(tmp_path: Path) -> None:
    first, second = (Image.fromarray(image) for image in IMAGES[:2])
    first.save(tmp_path / "a.gif", save_all=True, append_images=[second])
    first.save(tmp_path / "b.png")
    (note,) = frames_note(open_source(str(tmp_path)))
    assert "(a.gif: 2), of which the first is used" in note
    assert frames_note(open_source(str(write_images(tmp_path / "still")))) == ()


def write_images(folder: Path) -> Path:
    folder.mkdir()
    for number in range(2):
        (folder / f"{number}.png").write_bytes(png(number))
    return folder


def test_hdf5_is_read_in_groups_and_parts(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "g.h5", "w") as file:
        file["train/images"], file["train/labels"] = IMAGES, CLASSES[:, None]
        file["test/images"], file["test/labels"] = IMAGES[:2], [1, 2]
    told(tmp_path / "g.h5", "contains test, train; choose a split with --split")
    source = open_source(str(tmp_path / "g.h5"), split="train")
    assert labelled(source) == list("012012")
    assert source.left_aside.total == 2
    image = source.read(source.items[5].where)
    assert isinstance(image, np.ndarray)
    assert image[0, 0, 0] == 5
    told(tmp_path / "g.h5", "no array 'kind' for --label; it has test/images", split="train", label="kind")
    with h5py.File(tmp_path / "one.h5", "w") as file:
        file["dataset/images"], file["dataset/labels"] = IMAGES, CLASSES
    assert labelled(open_source(str(tmp_path / "one.h5"))) == list("012012")
    with h5py.File(tmp_path / "floats.h5", "w") as file:
        file["images"] = IMAGES / 255
    told(tmp_path / "floats.h5", r"found images float64.*; of values from 0 to 1")


def test_folders_of_masks_are_taken_for_classes_and_told(tmp_path: Path) -> None:
    for folder in ("images", "masks"):
        write_images(tmp_path / folder)
    (note,) = open_source(str(tmp_path)).notes
    assert "the folders images, masks are used as classes" in note


def test_further_captions_of_an_image_are_told(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "set")
    (folder / "metadata.csv").write_text("file_name,text\n0.png,one\n1.png,other\n0.png,another\n0.png,one\n")
    source = open_source(str(folder))
    assert [item.fields[TEXT] for item in source.items] == [b"one", b"other"]
    assert "1 images are listed with several captions (0.png), of which the first is used; prepare table:" in str(
        source.notes
    )
    assert len(open_source(str(folder / "metadata.csv")).items) == 3


def test_tables_of_addresses_are_told(table: Path) -> None:
    table.write_text("image,label\nhttps://x/1.jpg,0\n")
    told(table, "lists URLs .*; download them first")
    table.write_text(f"image,label\n{'abcd' * 200},0\n")
    told(table, "none of the first 1 files that it lists exists")


def test_captions_in_another_encoding_are_told(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "set")
    for number in range(2):
        (folder / f"{number}.txt").write_text("caf\u00e9", encoding="latin-1")
    with pytest.raises(DataError, match=r"not a text in UTF-8 \(.* at byte 3; iconv -f latin1") as error:
        prepare(open_source(str(folder)), tmp_path / "out", PrepareOptions(codec="source"), workers=1)
    assert "--codec" not in str(error.value)
