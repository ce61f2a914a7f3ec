"""Every kind of source, from real files, into shards and back."""

import csv
import gzip
import io
import json
import os
import pickle
import struct
import sys
import tarfile
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from data_pipelines.errors import DataError
from data_pipelines.manifest import Manifest
from data_pipelines.prepare import NAMED_SOURCES, cifar, named, open_source
from data_pipelines.prepare.run import PrepareOptions, prepare
from data_pipelines.protocol import ImageProtocol, Rejected
from data_pipelines.read import ShardDataset

SIZE = (6, 8)


def png(value: int, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((*SIZE, 3), value, np.uint8)).save(stream, kind)
    return stream.getvalue()


def prepared(source: str, tmp_path: Path, *, split: str = "all", **options) -> tuple[Manifest, list[tuple[int, int]]]:
    """Prepare a source as it is; return the manifest, and each image's first pixel with its label."""
    folder = tmp_path / "out"
    made = prepare(open_source(source, split=split), folder, PrepareOptions(seed=None, **options))
    dataset = ShardDataset(folder)
    fields = dataset.read(list(dataset.locations()))
    images, labels = fields["image"], fields["class"]
    return made[folder], [(int(image[0, 0, 0]), int(label)) for image, label in zip(images, labels, strict=True)]


def write_tree(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


TREE = {"cat/x.png": png(1), "cat/deep/er/y.PNG": png(2), "dog/z.png": png(3)}
FLAT = {"a.png": png(1), "sub/b.png": png(2), "c.png": png(3)}
FLAT_LABELS = {"labels": [["a.png", 1], ["sub/b.png", 0], ["c.png", 1]]}


def test_a_folder_of_class_folders(tmp_path: Path) -> None:
    manifest, seen = prepared(str(write_tree(tmp_path / "pets", TREE)), tmp_path)
    assert (manifest.name, manifest.classes, manifest.shape) == ("pets", ("cat", "dog"), (3, *SIZE))
    assert sorted(seen) == [(1, 0), (2, 0), (3, 1)]


def test_links_to_class_folders_are_followed_and_circles_are_not(tmp_path: Path) -> None:
    folder = write_tree(tmp_path / "pets", TREE)
    write_tree(tmp_path / "elsewhere", {"w.png": png(4)})
    (folder / "wolf").symlink_to(tmp_path / "elsewhere")
    (folder / "dog" / "up").symlink_to(folder)
    manifest, seen = prepared(str(folder), tmp_path)
    assert manifest.classes == ("cat", "dog", "wolf")
    assert sorted(seen) == [(1, 0), (2, 0), (3, 1), (4, 2)]


def test_a_folder_that_cannot_be_listed_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_tree(tmp_path / "pets", TREE)
    scandir = os.scandir

    def denied(path: str) -> object:
        if str(path).endswith("dog"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(DataError, match=r"pets/dog: cannot be listed \(Permission denied\)"):
        open_source(f"folder:{folder}")


def test_a_folder_of_images(tmp_path: Path) -> None:
    folder = write_tree(
        tmp_path / "loose", {"a.png": png(1), "b.webp": png(2, "WEBP"), ".hidden.png": b"", "notes": b""}
    )
    manifest, seen = prepared(str(folder), tmp_path)
    assert manifest.classes == ()
    assert [label for _, label in seen] == [-1, -1]
    assert open_source(str(folder)).left_aside.total == 2


def test_images_beside_class_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"1 images are beside the class folders \(the first: stray.png\)"):
        open_source(str(write_tree(tmp_path / "pets", {**TREE, "stray.png": png(9)})))


@pytest.mark.parametrize("wrap", ["folder", "zip", "zip in a folder"])
def test_a_flat_folder_with_labels(tmp_path: Path, wrap: str) -> None:
    files = {**FLAT, "dataset.json": json.dumps(FLAT_LABELS).encode()}
    source = pack(tmp_path, files, wrap)
    manifest, seen = prepared(str(source), tmp_path)
    assert manifest.classes == ("0", "1")
    assert sorted(seen) == [(1, 1), (2, 0), (3, 1)]


@pytest.mark.parametrize("wrap", ["zip", "zip in a folder"])
def test_a_zip_of_class_folders(tmp_path: Path, wrap: str) -> None:
    manifest, seen = prepared(str(pack(tmp_path, TREE, wrap)), tmp_path)
    assert manifest.classes == ("cat", "dog")
    assert sorted(seen) == [(1, 0), (2, 0), (3, 1)]


def pack(tmp_path: Path, files: dict[str, bytes], wrap: str) -> Path:
    if wrap == "folder":
        return write_tree(tmp_path / "in", files)
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        for name, content in files.items():
            archive.writestr(f"top/{name}" if "folder" in wrap else name, content)
        archive.writestr("__MACOSX/x.png", b"")
    return tmp_path / "in.zip"


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([["a.png", 1]], "2 images have no label in it (the first: c.png)"),
        ([["a.png", -1]], "the label of a.png is -1"),
        ([["a.png", [0, 1]]], "the label of a.png is [0, 1]"),
        ([["a.png", 1], ["a.png", 1]], "1 paths are listed twice"),
        ("text", "expected {"),
    ],
)
def test_wrong_labels_are_one_line(tmp_path: Path, labels: object, words: str) -> None:
    folder = write_tree(tmp_path / "in", {**FLAT, "dataset.json": json.dumps({"labels": labels}).encode()})
    with pytest.raises(DataError) as caught:
        open_source(str(folder))
    assert words in str(caught.value)


def test_a_listed_file_that_lacks_is_rejected(tmp_path: Path) -> None:
    labels = {"labels": [*FLAT_LABELS["labels"], ["gone.png", 0]]}
    folder = write_tree(tmp_path / "in", {**FLAT, "dataset.json": json.dumps(labels).encode()})
    manifest, _ = prepared(str(folder), tmp_path)
    assert (manifest.count, manifest.rejected) == (3, 1)


def test_a_damaged_member_of_a_zip_is_rejected(tmp_path: Path) -> None:
    path = pack(tmp_path, TREE, "zip")
    data = bytearray(path.read_bytes())
    data[data.index(TREE["dog/z.png"]) + 40] ^= 255
    path.write_bytes(data)
    manifest, _ = prepared(str(path), tmp_path)
    assert (manifest.count, manifest.rejected) == (2, 1)
    path.write_bytes(data[:100])
    with pytest.raises(DataError, match="not a complete zip"):
        open_source(str(path))


@pytest.mark.parametrize("kind", ["csv", "tsv", "parquet"])
@pytest.mark.parametrize("labels", [["dog", "cat", "dog"], [1, 0, 1], None])
def test_a_table(tmp_path: Path, kind: str, labels: list | None) -> None:
    folder = write_tree(tmp_path / "in", FLAT)
    columns = {"path": ["a.png", "sub/b.png", str(folder / "c.png")], "caption": ["one, and", "", 'a "two"\nlines']}
    columns |= {"label": labels} if labels else {}
    path = folder / f"table.{kind}"
    if kind == "parquet":
        pyarrow.parquet.write_table(pyarrow.table(columns), path)
    else:
        with path.open("w", newline="") as file:
            writer = csv.writer(file, delimiter="\t" if kind == "tsv" else ",")
            writer.writerows([columns, *zip(*columns.values(), strict=True)])
    manifest, seen = prepared(str(path), tmp_path)
    assert manifest.stored == ("image", "text")
    assert seen == ([(1, 1), (2, 0), (3, 1)] if labels else [(1, -1), (2, -1), (3, -1)])
    if labels:
        assert manifest.classes == (("cat", "dog") if labels[0] == "dog" else ("0", "1"))
    with tarfile.open(tmp_path / "out" / "shard-000000.tar") as tar:
        texts = {name: tar.extractfile(name).read() for name in tar.getnames() if name.endswith(".txt")}
    assert texts == {"000000000.txt": b"one, and", "000000002.txt": b'a "two"\nlines'}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a,b\n1,2\n", "no column of paths; it has a, b"),
        ("path,label\nx.png,0\ny.png,-1\n", "labels must all be class indices from 0 on, or all be names; one is -1"),
        ("path,label\n,1\n", "row 2: a path is missing or is not a text"),
        ("", "cannot be read as a table"),
    ],
)
def test_a_wrong_table_is_one_line(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(DataError) as caught:
        open_source(str(tmp_path / "t.csv"))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


OTHERS = {
    f"part/{'long-' * 30}{number}.{suffix}": content
    for number in range(4)
    for suffix, content in (("jpg", png(40 + number, "JPEG")), ("txt", b"words"), ("cls", str(number % 2).encode()))
}


def test_tars_of_others_are_indexed_in_place(tmp_path: Path) -> None:
    write_tar(tmp_path / "in" / "a.tar", OTHERS)
    write_tar(tmp_path / "in" / "b.tar", {**OTHERS, "odd.txt": b"no image", "broken.png": b"x", "broken.cls": b"1"})
    before = (tmp_path / "in" / "b.tar").read_bytes()
    manifest, seen = prepared(str(tmp_path / "in"), tmp_path)
    assert (tmp_path / "in" / "b.tar").read_bytes() == before
    assert [shard.url for shard in manifest.shards] == [str(tmp_path / "in" / name) for name in ("a.tar", "b.tar")]
    assert not list((tmp_path / "out").glob("*.tar"))
    assert (manifest.codec, manifest.classes, manifest.stored) == ("source", ("0", "1"), ("image", "text"))
    assert seen == [(40, 0), (41, 1), (42, 0), (43, 1)] * 2
    rejected = [json.loads(line) for line in (tmp_path / "out" / "rejected.jsonl").read_text().splitlines()]
    assert [(entry["source"], entry["reason"]) for entry in rejected] == [
        ("b.tar/odd", "missing"),
        ("b.tar/broken", "unreadable"),
    ]


def test_tars_of_others_can_be_written_anew(tmp_path: Path) -> None:
    write_tar(tmp_path / "in" / "a.tar", OTHERS)
    manifest, seen = prepared(str(tmp_path / "in" / "a.tar"), tmp_path, codec="png", resolution=(4, 4))
    assert (manifest.codec, manifest.shape, manifest.stored) == ("png", (3, 4, 4), ("image", "text"))
    assert [label for _, label in seen] == [0, 1, 0, 1]


@pytest.mark.parametrize("member", ["cls", "json"])
def test_classes_may_have_names(tmp_path: Path, member: str) -> None:
    content = {"cls": lambda name: name.encode(), "json": lambda name: json.dumps({"label": name}).encode()}[member]
    names = ["zebra", "ant", "zebra"]
    members = {}
    for number, name in enumerate(names):
        members |= {f"{number}.png": png(number), f"{number}.{member}": content(name)}
    manifest, seen = prepared(str(write_tar(tmp_path / "x.tar", members)), tmp_path)
    assert manifest.classes == ("ant", "zebra")
    assert seen == [(0, 1), (1, 0), (2, 1)]


@pytest.mark.parametrize("damage", ["cut in a member", "cut between members", "flipped header"])
def test_a_damaged_tar_is_told_of(tmp_path: Path, damage: str) -> None:
    path = write_tar(tmp_path / "x.tar", {f"{number}.png": png(number) for number in range(5)})
    with tarfile.open(path) as tar:
        third = tar.getmembers()[3]
    data = bytearray(path.read_bytes())
    if damage == "flipped header":
        data[third.offset + 3] ^= 64
    path.write_bytes(
        data[: {"cut in a member": third.offset_data + 9, "cut between members": third.offset}.get(damage)]
    )
    manifest, seen = prepared(str(path), tmp_path)
    assert [value for value, _ in seen] == [0, 1, 2]
    rejected = (tmp_path / "out" / "rejected.jsonl").read_text()
    assert "damaged" in rejected
    assert 1 <= manifest.rejected <= 2


def test_a_class_for_some_only_is_refused(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", {"0.png": png(0), "0.cls": b"1", "1.png": png(1)})
    with pytest.raises(DataError, match="1 of 2 samples have no label, the first is x.tar/1; .*--label none"):
        open_source(str(path))


def write_idx(path: Path, values: np.ndarray) -> None:
    data = b"\0\0\x08" + bytes([values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx(tmp_path: Path, suffix: str) -> None:
    folder = tmp_path / "mnist"
    for split, first in (("train", 10), ("t10k", 20)):
        images = np.arange(first, first + 3, dtype=np.uint8)[:, None, None] + np.zeros((3, 4, 5), np.uint8)
        write_idx(folder / f"{split}-images-idx3-ubyte{suffix}", images)
        write_idx(folder / f"{split}-labels-idx1-ubyte{suffix}", np.array([0, 1, 2], np.uint8))
    manifest, seen = prepared(str(folder), tmp_path)
    assert (manifest.shape, manifest.classes) == ((1, 4, 5), ("0", "1", "2"))
    assert seen == [(10, 0), (11, 1), (12, 2), (20, 0), (21, 1), (22, 2)]
    assert [item.label for item in open_source(f"idx:{folder}", split="test").items] == [0, 1, 2]
    (folder / f"t10k-labels-idx1-ubyte{suffix}").unlink()
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte\[.gz\] is missing"):
        open_source(str(folder))


def cifar_archive(path: Path, variant: cifar.Variant) -> Path:
    rows = bytes(range(1, 1 + variant.label_bytes)) + b"\x07" * 1024 + b"\x08" * 1024 + b"\x09" * 1024
    files = {file: rows * 2 for part in variant.files.values() for file in part}
    names = "\n".join(f"class{number}" for number in range(5)) + "\n\n"
    members = {f"cifar/{name}": content for name, content in {**files, variant.names: names.encode()}.items()}
    path.write_bytes(gzip.compress(write_tar(path.with_suffix(".plain"), members).read_bytes()))
    return path


@pytest.mark.parametrize(("variant", "count", "label"), [(cifar.CIFAR10, 12, 1), (cifar.CIFAR100, 4, 2)])
def test_cifar_binary(tmp_path: Path, variant: cifar.Variant, count: int, label: int) -> None:
    path = cifar_archive(tmp_path / "cifar.tar.gz", variant)
    manifest, seen = prepared(f"cifar:{path}", tmp_path)
    assert (manifest.name, manifest.shape, len(manifest.classes)) == (variant.name, (3, 32, 32), 5)
    assert seen == [(7, label)] * count
    with tarfile.open(path) as tar:
        tar.extractall(tmp_path / "unpacked", filter="data")
    assert len(open_source(str(tmp_path / "unpacked" / "cifar"), split="test").items) == 2
    (tmp_path / "unpacked" / "cifar" / variant.files["test"][0]).write_bytes(b"short")
    with pytest.raises(DataError, match="has 5 bytes, expected a multiple of"):
        open_source(str(tmp_path / "unpacked" / "cifar"))


@pytest.mark.parametrize("protocol", [2, 4])
def test_cifar_python(tmp_path: Path, protocol: int) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (6, 3 * 32 * 32), dtype=np.uint8)
    files = {f"data_batch_{number}": slice(number - 1, number) for number in range(1, 6)} | {"test_batch": slice(5, 6)}
    for name, rows in files.items():
        batch = {b"data": pixels[rows], b"labels": list(range(10))[rows], b"filenames": [b"a.png"]}
        (folder / name).write_bytes(pickle.dumps(batch, protocol))
    names = {b"label_names": [f"name {number}".encode() for number in range(10)], b"num_vis": 3072}
    (folder / "batches.meta").write_bytes(pickle.dumps(names, protocol))
    manifest, _ = prepared(str(folder), tmp_path)
    assert (manifest.count, manifest.shape, manifest.classes[5]) == (6, (3, 32, 32), "name 5")
    source = open_source(str(folder), split="test")
    assert [item.label for item in source.items] == [5]
    np.testing.assert_array_equal(source.read(source.items[0].where), pixels[5].reshape(3, 32, 32))


def test_a_pickle_of_cifar_runs_nothing(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return os.mkdir, (str(tmp_path / "ran"),)

    for name in ("batches.meta", *(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        (tmp_path / name).write_bytes(pickle.dumps({b"label_names": Evil()}, 2))
    with pytest.raises(DataError, match=r"batches.meta: refused: the pickle names posix.mkdir"):
        open_source(f"cifar:{tmp_path}")
    assert not (tmp_path / "ran").exists()
    (tmp_path / "batches.meta").write_bytes(b"damaged")
    with pytest.raises(DataError, match="a damaged pickle"):
        open_source(f"cifar:{tmp_path}")


def test_the_official_cifar_is_checked(tmp_path: Path) -> None:
    cifar_archive(tmp_path / "cifar-10-binary.tar.gz", cifar.CIFAR10)
    with pytest.raises(DataError, match="expected c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"):
        cifar.fetched(cifar.CIFAR10, cache=tmp_path)


@pytest.mark.parametrize("words", [True, False])
def test_imagenets_tar_of_tars(tmp_path: Path, words: bool) -> None:
    folder = tmp_path / "official"
    inner = {}
    for synset, values in (("n02", (3, 4)), ("n01", (1, 2))):
        members = {f"{synset}_{value}.JPEG": png(value * 10, "JPEG") for value in values}
        inner[f"{synset}.tar"] = write_tar(tmp_path / f"{synset}.tar", members).read_bytes()
    write_tar(folder / "ILSVRC2012_img_train.tar", inner)
    if words:
        (folder / "LOC_synset_mapping.txt").write_text("n01 tench, Tinca tinca\nn02 goldfish\n")
    manifest, seen = prepared(f"imagenet:{folder}", tmp_path, codec="jpeg")
    assert manifest.classes == (("tench, Tinca tinca", "goldfish") if words else ("n01", "n02"))
    assert seen == [(10, 0), (20, 0), (30, 1), (40, 1)]
    for name, content in inner.items():
        write_tree(tmp_path / "unpacked", {name: content})
    assert [item.label for item in open_source(f"imagenet:{tmp_path / 'unpacked'}").items] == [0, 0, 1, 1]


@pytest.mark.parametrize("name", ["ffhq", "celeba"])
def test_faces_have_no_classes(tmp_path: Path, name: str) -> None:
    write_tree(tmp_path / "in", {"00000/00000.png": png(1), "01000/01000.png": png(2)})
    manifest, seen = prepared(f"{name}:{tmp_path / 'in'}", tmp_path)
    assert (manifest.name, manifest.classes) == (name, ())
    assert "licence" not in manifest.licence
    assert seen == [(1, -1), (2, -1)]


def test_hugging_face_datasets(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "label": datasets.ClassLabel(names=["cat", "dog"]),
            "text": datasets.Value("string"),
        }
    )
    rows = {"image": [{"bytes": png(n), "path": None} for n in range(4)], "label": [1, 0, 1, 0], "text": list("abcd")}
    part = datasets.Dataset.from_dict(rows, features=features)
    datasets.DatasetDict({"train": part, "test": part.select([0])}).save_to_disk(tmp_path / "both")
    part.save_to_disk(tmp_path / "one")
    manifest, seen = prepared(str(tmp_path / "one"), tmp_path)
    assert (manifest.classes, manifest.stored) == (("cat", "dog"), ("image", "text"))
    assert seen == [(0, 1), (1, 0), (2, 1), (3, 0)]
    assert len(open_source(str(tmp_path / "both")).items) == 5
    assert len(open_source(str(tmp_path / "both"), split="test").items) == 1
    with pytest.raises(DataError, match="has no splits of its own"):
        open_source(str(tmp_path / "one"), split="train")


def test_hugging_face_is_optional(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    write_tree(tmp_path, {"state.json": b"{}"})
    with pytest.raises(DataError, match=r"pip install 'bigtrain\[huggingface\]'"):
        open_source(str(tmp_path))


@pytest.mark.skipif(not named.OPENCLIPART.is_dir(), reason="Debian's openclipart-png is not installed")
def test_openclipart_has_its_classes_and_its_bombs() -> None:
    source = NAMED_SOURCES["openclipart"]("all")
    assert (len(source.items), len(source.classes)) == (6900, 22)
    reasons: Counter[str] = Counter()
    for item in source.items[::60]:
        try:
            ImageProtocol(32, 32, pixel_limit=500_000).apply(source.reader.read(item.where))
        except Rejected as answer:
            reasons[answer.reason] += 1
    assert set(reasons) == {"bomb"}
    assert 1 <= reasons["bomb"] < 60


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("imagnet", "unknown dataset 'imagnet' (did you mean 'imagenet'?)"),
        ("imagenet", "download ILSVRC2012_img_train.tar from image-net.org and give imagenet:PATH"),
        ("celeba", "download img_align_celeba.zip"),
        ("fashion-mnist-10k?train", "it has no split"),
        ("{}", "not recognised as a source of samples, it is empty; give its kind"),
        ("folder:{}", "no images in it"),
        ("webdataset:{}", "no .tar in it"),
        ("idx:{}", "no train or t10k or test-images-idx3-ubyte[.gz] in it"),
        ("cifar:{}", "not a version of CIFAR"),
        ("imagenet:{}", "neither ILSVRC2012_img_train.tar nor"),
        ("ffhq:{}/nothing", "unknown dataset"),
    ],
)
def test_what_is_not_understood_is_one_line(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "empty").mkdir()
    name, _, split = text.format(tmp_path / "empty").partition("?")
    if split:
        with pytest.raises(DataError, match="is the test split"):
            open_source(name, split=split)
        return
    with pytest.raises(DataError) as caught:
        open_source(name)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
