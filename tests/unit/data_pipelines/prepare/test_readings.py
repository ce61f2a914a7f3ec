"""The one reading of folders and archives: what counts, what classes are, and that nothing is lost in silence."""

import io
import json
import os
import random
import tarfile
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from data_pipelines.content import image_format, why_no_image
from data_pipelines.errors import DataError
from data_pipelines.pictures import FORMATS
from data_pipelines.prepare import open_images, open_source
from data_pipelines.prepare.layout import UnclearLabelsError, layout_of
from data_pipelines.prepare.names import IMAGE_SUFFIXES, in_common_form, in_natural_order, is_system_file
from data_pipelines.prepare.run import PrepareOptions, prepare
from data_pipelines.prepare.samples import have_dotted_names
from data_pipelines.protocol import Rejected
from data_pipelines.source import Source
from data_pipelines.verify import verify


def image(value: int, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((4, 4, 3), value, np.uint8)).save(stream, kind)
    return stream.getvalue()


PNG, JPEG = image(7), image(7, "JPEG")


def tree(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo("x")
            info.filename = name  # as it is: the constructor changes separators
            archive.writestr(info, content)
    return path


def tarred(path: Path, members: list[tuple[str, bytes | tuple[bytes, str]]], mode: str = "w") -> Path:
    """Write a tar of files and, where the content is a type and a target, of links."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if isinstance(content, tuple):
                info.type, info.linkname = content
                tar.addfile(info)
            else:
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return path


def packed(tmp_path: Path, form: str, files: dict[str, bytes]) -> Path:
    """Write the same files as a folder, a zip, or a tar, compressed or not."""
    if form == "folder":
        return tree(tmp_path / "set", files)
    if form == "zip":
        return zipped(tmp_path / "set.zip", files)
    mode = {"tar": "w", "tar.gz": "w:gz", "tar.bz2": "w:bz2", "tar.xz": "w:xz"}[form]
    return tarred(tmp_path / f"set.{form}", list(files.items()), mode)


def classes_of(source: Source) -> dict[str, int]:
    counts = Counter(source.classes[item.label] if item.label >= 0 else "" for item in source.items)
    return dict(counts)


FORMS = ["folder", "zip", "tar", "tar.gz", "tar.bz2", "tar.xz"]
CLUTTER = {
    ".DS_Store": b"x",
    "._x.png": b"x",
    "__MACOSX/cat/._a.png": b"x",
    ".ipynb_checkpoints/a-checkpoint.png": PNG,
    "cat/.ipynb_checkpoints/a-checkpoint.png": PNG,
    "@eaDir/a.png/THUMB.jpg": JPEG,
    "dog/Thumbs.db": b"x",
    "dog/desktop.ini": b"x",
    "README.md": b"# Pets",
    "LICENSE": b"Free.",
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("root", ["", "pets/", "./", "a/b/"])
def test_clutter_is_no_class_and_no_image(tmp_path: Path, form: str, root: str) -> None:
    pets = {"cat/a.png": PNG, "cat/b.JPG": JPEG, "dog/c.jfif": JPEG, "dog/d": PNG}
    source = open_source(
        str(packed(tmp_path, form, {root + name: content for name, content in {**CLUTTER, **pets}.items()}))
    )
    assert classes_of(source) == {"cat": 2, "dog": 2}
    assert source.left_aside.total == len(CLUTTER)
    assert source.left_aside.counts["hidden or of the system"] == 8


@pytest.mark.parametrize("form", FORMS)
def test_parts_above_classes(tmp_path: Path, form: str) -> None:
    files = {f"set/{part}/{name}/{part}{n}.png": PNG for part in ("Train", "valid") for name in "ab" for n in range(2)}
    files |= {"set/valid/c/x.png": PNG}
    path = str(packed(tmp_path, form, files))
    assert classes_of(open_source(path)) == {"a": 4, "b": 4, "c": 1}
    train, val = (open_source(path, split=split) for split in ("train", "validation"))
    assert (classes_of(train), classes_of(val)) == ({"a": 2, "b": 2}, {"a": 2, "b": 2, "c": 1})
    assert train.classes == val.classes == ("a", "b", "c")
    with pytest.raises(DataError, match="has no split 'test' of its own; it has train, val"):
        open_source(path, split="test")


@pytest.mark.parametrize(
    ("names", "classes"),
    [
        (["10/a", "2/a", "1/a"], ("1", "2", "10")),
        (["train/0/a", "test/0/b"], ("0",)),
        (["train/a", "test/b"], ()),
        (["images/a", "images/b"], ()),
        (["train/images/a", "val/images/b"], ()),
        (["car/a", "train/b", "bus/c"], ("bus", "car", "train")),
        (["train2017/cat/a", "val2017/dog/b"], ("cat", "dog")),
        (["seg_train/cat/a", "seg_test/cat/b"], ("cat",)),
        (["test_images/a", "train_images/b"], ()),
        (["train_station/a", "test_tube/b"], ("test_tube", "train_station")),
        (["train_station/a"], ("train_station",)),
        (["only/a", "only/b"], ("only",)),
        (["top/cat/a", "top/cat/deep/b", "top/dog/c"], ("cat", "dog")),
        (["a", "b"], ()),
    ],
)
def test_what_folders_mean(names: list[str], classes: tuple[str, ...]) -> None:
    layout = layout_of(names, "set")
    assert (layout.names, layout.classes) == (names, classes)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["cat/a", "dog/b", "c"], r"1 images are beside the class folders \(the first: c\)"),
        (
            ["train/a/x", "test/b/x", "extra/c/x"],
            "test, train look like splits of a dataset, but there are extra; .*--split",
        ),
        (["train/a/x", "train/b/x", "test/x"], "1 images are beside the class folders.*--split"),
    ],
)
def test_unclear_folders_are_told_of_and_still_scored(tmp_path: Path, names: list[str], words: str) -> None:
    with pytest.raises(UnclearLabelsError, match=words):
        layout_of(names, "set")
    tree(tmp_path, {f"{name}.png": PNG for name in names})
    assert classes_of(open_images(tmp_path)) == {"": len(names)}


def test_folders_without_images_are_told_of(tmp_path: Path) -> None:
    tree(tmp_path, {"cat/a.png": PNG, "dog/b.png": PNG, "notes/x.txt": b""})
    (tmp_path / "bird").mkdir()
    source = open_source(str(tmp_path))
    assert source.classes == ("cat", "dog")
    assert source.notes == (
        "2 folders beside the classes contain no images, and are not used as classes (bird, notes)",
    )


@pytest.mark.parametrize(
    ("name", "common"),
    [
        ("./a/b.png", "a/b.png"),
        ("/a/./b.png", "a/b.png"),
        ("a\\b.png", "a/b.png"),
        ("cafe\u0301/x", "caf\u00e9/x"),
        (os.fsdecode(b"caf\xe9/x"), "caf\\xe9/x"),
        ("a\nb", "a\\nb"),
    ],
)
def test_names_have_one_form(name: str, common: str) -> None:
    assert in_common_form(name) == common
    common.encode()


def test_numbers_are_in_their_order() -> None:
    assert in_natural_order(["10", "9", "-1", "2"]) == ("-1", "2", "9", "10")
    assert in_natural_order(["10", "9", "b"]) == ("10", "9", "b")


def test_all_that_pillow_reads_is_an_image() -> None:
    Image.init()
    others = {"BUFR", "GRIB", "HDF5", "MPEG", "EPS", "WMF", "FITS", "IPTC"}  # films, documents, fields of numbers
    known = {suffix for suffix, name in Image.registered_extensions().items() if name in Image.OPEN.keys() - others}
    assert known <= IMAGE_SUFFIXES


def test_what_pillow_reads_and_we_do_not_is_rejected_for_that(tmp_path: Path) -> None:
    Image.init()
    formats = {suffix: name for suffix, name in Image.registered_extensions().items() if suffix in IMAGE_SUFFIXES}
    pictures = Image.fromarray(np.arange(768, dtype=np.uint8).reshape(16, 16, 3))
    (tmp_path / "in").mkdir()
    written = 0
    for suffix, name in formats.items():
        if name in Image.SAVE and name != "IM":  # which Pillow is about to forget
            picture = pictures.convert({"MSP": "1", "XBM": "1", "BLP": "P", "PALM": "P", "PFM": "F"}.get(name, "RGB"))
            picture.save(tmp_path / "in" / f"x{suffix[1:]}{suffix}", name)
            written += 1
    source = open_source(str(tmp_path / "in"))
    (manifest,) = prepare(source, tmp_path / "out", PrepareOptions(resolution=(16, 16))).values()
    rejected = [json.loads(line) for line in _lines(tmp_path / "out" / "rejected.jsonl")]
    assert manifest.count + len(rejected) == written
    assert {formats[Path(one["source"]).suffix] for one in rejected}.isdisjoint(FORMATS)
    assert all("an image of the format" in one["detail"] for one in rejected), rejected
    assert len(rejected) >= 10


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "an empty file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        (b"\0\0\0\x18ftypheic" + bytes(8), "HEIC"),
        (b"<!DOCTYPE html>", "HTML"),
        (b"PK\3\4", "zip"),
        (b"words", "not an image"),
    ],
)
def test_what_is_no_image_says_what_it_is(content: bytes, words: str) -> None:
    assert image_format(content) is None
    assert words in why_no_image(content)


# Tars


def labelled(count: int = 6) -> list[tuple[str, bytes]]:
    return [m for n in range(count) for m in ((f"{n:03d}.png", image(n)), (f"{n:03d}.cls", str(n % 2).encode()))]


def seen(path: Path, **options: object) -> list[tuple[int, int]]:
    """Return the first pixel and the label of each sample that can be read, in the order of the pixels."""
    source = open_source(str(path), **options)
    found = []
    for item in source.items:
        content = source.read(item.where)
        assert isinstance(content, bytes)
        found.append((Image.open(io.BytesIO(content)).getpixel((0, 0))[0], item.label))
    return sorted(found)


RIGHT = [(n, n % 2) for n in range(6)]


@pytest.mark.parametrize("order", ["images first", "shuffled", "as it should be"])
def test_members_of_a_sample_need_not_follow_each_other(tmp_path: Path, order: str) -> None:
    members = labelled()
    if order == "images first":
        members.sort(key=lambda member: member[0].endswith(".cls"))
    elif order == "shuffled":
        random.Random(3).shuffle(members)
    assert seen(tarred(tmp_path / "x.tar", members)) == RIGHT


def test_links_are_members_like_others(tmp_path: Path) -> None:
    members = [
        ("link.png", (tarfile.LNKTYPE, "first.png")),  # before what it leads to
        ("first.png", image(1)),
        ("sub/far.png", (tarfile.SYMTYPE, "../first.png")),
        ("again", (tarfile.SYMTYPE, "sub")),
        ("round.png", (tarfile.SYMTYPE, "round.png")),
        ("gone.png", (tarfile.SYMTYPE, "/storage/gone.png")),
        ("out.png", (tarfile.SYMTYPE, "../../first.png")),
    ]
    source = open_source(str(tarred(tmp_path / "x.tar", members)), label="none")
    lost = []
    for item in source.items:
        try:
            assert source.read(item.where) == image(1)
        except Rejected as error:
            lost.append((item.name, error.reason, "a link to" in error.detail))
    assert len(source.items) == 7
    assert sorted(lost) == [(f"x.tar/{name}", "missing", True) for name in ("gone", "out", "round")]


def test_tars_behind_one_another_are_read(tmp_path: Path) -> None:
    one = tarred(tmp_path / "1.tar", labelled()).read_bytes()
    both = tmp_path / "both.tar"
    both.write_bytes(one + bytes(5 * 512) + one)
    assert seen(both) == sorted(RIGHT * 2)
    prepare(open_source(str(both)), tmp_path / "out", PrepareOptions())
    assert not verify(tmp_path / "out", deep=True)
    both.write_bytes(one + b"rubbish" * 100)
    items = open_source(str(both)).items
    assert len(items) == 7
    assert "not part of a tar" in str(items[-1].where)


@pytest.mark.parametrize("packing", ["gzip", "bz2", "zstd"])
def test_compressed_tars_are_read_whatever_they_are_called(tmp_path: Path, packing: str) -> None:
    import pyarrow

    path = tarred(tmp_path / "x.tar", labelled())
    content = path.read_bytes()
    with pyarrow.CompressedOutputStream(str(path), packing) as file:
        file.write(content)
    assert seen(path) == RIGHT
    cut = path.read_bytes()
    path.write_bytes(cut[: len(cut) // 2])
    try:
        assert "damaged" in str(open_source(str(path), label="none").items[-1].where)
    except DataError as error:
        assert "cannot be unpacked" in str(error) or "no images in its tars" in str(error)


@pytest.mark.parametrize(
    ("names", "dotted"),
    [
        (["a.left.jpg", "a.right.jpg", "b.left.jpg", "b.right.jpg"], False),
        (["cat.0.jpg", "cat.1.jpg", "dog.0.jpg"], True),
        (["john.smith.jpg", "mary.jones.jpg", "ann.lee.jpg"], True),
        (["a.jpg", "b.jpg", "a.cls"], False),
        (["2020.01.02.png"], True),
    ],
)
def test_dots_in_names_are_told_from_fields(names: list[str], dotted: bool) -> None:
    assert have_dotted_names(names) is dotted


def test_parts_among_tars(tmp_path: Path) -> None:
    tarred(tmp_path / "train-0.tar", labelled())
    tarred(tmp_path / "val-0.tar", labelled(2))
    assert len(open_source(str(tmp_path), split="train").items) == 6
    together = open_source(str(tmp_path))
    assert len(together.items) == 8
    assert together.notes == ("tars of train, val were combined; --split selects one part",)


# Nothing is lost in silence

_FOLDERS = ["", "cat/", "dog/", "cat/deep/", ".hidden/", "@eaDir/", "caf\u00e9/", "cafe\u0301/"]
_FILES = ["a", "b", "a.b", ".c", "Thumbs"]
_ENDINGS = [".png", ".JPG", ".jpeg", "", ".txt", ".json", ".cls", ".heic", ".md", ".odd", ".db"]
_CONTENTS = [PNG, JPEG, b"", b"words", b"1"]
_NAMES = st.builds("".join, st.tuples(*map(st.sampled_from, (_FOLDERS, _FILES, _ENDINGS))))


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    files=st.dictionaries(_NAMES, st.sampled_from(_CONTENTS), min_size=1, max_size=10),
    form=st.sampled_from(["folder", "zip", "tar", "tar.gz"]),
    order=st.randoms(use_true_random=False),
)
def test_every_file_is_in_the_set_rejected_or_counted(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes], form: str, order: random.Random
) -> None:
    names = list(files)
    order.shuffle(names)
    tmp_path = tmp_path_factory.mktemp("files")
    path = packed(tmp_path, form, {name: files[name] for name in names})
    prefix = {"folder": "folder:", "zip": "zip:"}.get(form, "webdataset:")
    try:
        source = open_source(f"{prefix}{path}", label="none")
    except DataError as error:  # told, in one line
        assert "\n" not in str(error)
        assert not any(name.lower().endswith(("png", "jpg", "jpeg")) and not is_system_file(name) for name in names)
        return
    assert _accounted(source) == len(files)
    aside = source.left_aside
    assert {why: len(named) for why, named in aside.first.items()} == {w: min(n, 3) for w, n in aside.counts.items()}
    try:
        made = prepare(source, tmp_path / "out", PrepareOptions(seed=None, codec="png", resolution=(4, 4)))
    except DataError as error:
        assert "none of" in str(error)
        assert not list(tmp_path.glob("out*"))
        return
    (manifest,) = made.values()
    lines = [json.loads(line) for line in _lines(tmp_path / "out" / "rejected.jsonl")]
    assert manifest.count + len(lines) == len(source.items)
    assert all(line["reason"] and line["detail"] and line["source"] for line in lines)


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.is_file() else []


def _accounted(source: Source) -> int:
    """Return the number of files that samples are made of, and that were left aside and counted."""
    places = {item.where for item in source.items}
    places |= {where for item in source.items for where in item.fields.values() if not isinstance(where, bytes)}
    without = sum(1 for where in places if "no image among" in str(where))
    return len(places) - without + source.left_aside.total
