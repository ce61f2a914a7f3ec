"""Preparing shards: the same bytes whatever happens on the way, and nothing lost in silence."""

import errno
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import webdataset
from PIL import Image

from data_pipelines.errors import DataError
from data_pipelines.fields.spec import FieldSpec
from data_pipelines.preparation import Part, Preparation
from data_pipelines.prepare.arrays import from_arrays
from data_pipelines.prepare.files import from_files
from data_pipelines.prepare.place import Place
from data_pipelines.prepare.run import PrepareOptions, parse_bytes, parse_resolution, prepare
from data_pipelines.protocol import ImageProtocol
from data_pipelines.read import ShardDataset
from data_pipelines.source import ArrayReader
from data_pipelines.write import ShardOptions, write_part, write_shards
from tests.conftest import tiny_source


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class Failing(ArrayReader):
    """Reads until it comes to image 30."""

    def read(self, where: int) -> np.ndarray:
        if where == 30:
            raise KeyboardInterrupt
        return super().read(where)


def test_an_interrupted_preparation_goes_on(tmp_path: Path) -> None:
    source = tiny_source()
    whole = write_shards(source, tmp_path / "whole", ShardOptions(shard_samples=8))
    failing = replace(source, reader=Failing(source.reader.images))
    with pytest.raises(KeyboardInterrupt):
        write_shards(failing, tmp_path / "set", ShardOptions(shard_samples=8))
    assert not (tmp_path / "set").exists()
    kept = tmp_path / "set.partial" / "shard-000002.tar"
    inode = kept.stat().st_ino
    seen: list[int] = []
    manifest = write_shards(source, tmp_path / "set", ShardOptions(shard_samples=8), on_progress=seen.append)
    assert seen[0] == 24
    assert seen[-1] == 50
    assert (tmp_path / "set" / "shard-000002.tar").stat().st_ino == inode
    assert manifest == whole
    assert contents(tmp_path / "set") == contents(tmp_path / "whole")
    assert not (tmp_path / "set.partial").exists()


class Full(ArrayReader):
    """Stands for a disk that is full at image 30."""

    def read(self, where: int) -> np.ndarray:
        if where == 30:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().read(where)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk_is_one_line_and_can_be_mended(tmp_path: Path, workers: int) -> None:
    source = tiny_source()
    full = replace(source, reader=Full(source.reader.images))
    with pytest.raises(DataError, match=r"set.partial: stopped: .*No space left on device; run the same command again"):
        write_shards(full, tmp_path / "set", ShardOptions(shard_samples=8), workers=workers)
    assert write_shards(source, tmp_path / "set", ShardOptions(shard_samples=8)).count == 50
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be created"):
        write_shards(source, tmp_path / "file" / "set")


def test_what_was_begun_otherwise_is_not_mixed_in(tmp_path: Path) -> None:
    source = tiny_source()
    failing = replace(source, reader=Failing(source.reader.images))
    with pytest.raises(KeyboardInterrupt):
        write_shards(failing, tmp_path / "set", ShardOptions(shard_samples=8))
    eight = ShardOptions(shard_samples=8)
    otherwise = (replace(eight, shard_samples=9), replace(eight, codec="npy"), eight)
    for other, options in zip((source, source, tiny_source(seed=1)), otherwise, strict=True):
        with pytest.raises(DataError, match=r"set.partial: was begun with another source, other options"):
            write_shards(other, tmp_path / "set", options)


def test_the_same_again_changes_nothing_and_another_is_refused(tmp_path: Path) -> None:
    manifest = write_shards(tiny_source(), tmp_path / "set", ShardOptions(shard_samples=8))
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "set").iterdir()}
    assert write_shards(tiny_source(), tmp_path / "set", ShardOptions(shard_samples=8)) == manifest
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "set").iterdir()} == before
    with pytest.raises(DataError, match="set: exists already, and was not made from this source"):
        write_shards(tiny_source(seed=1), tmp_path / "set", ShardOptions(shard_samples=8))
    (tmp_path / "other").mkdir()
    with pytest.raises(DataError, match="other: exists already"):
        write_shards(tiny_source(), tmp_path / "other")


def test_two_at_once_do_not_meet(tmp_path: Path) -> None:
    source = tiny_source()

    def again(done: int) -> None:
        with pytest.raises(DataError, match="another process is preparing this dataset"):
            write_shards(source, tmp_path / "set")

    write_shards(source, tmp_path / "set", on_progress=again)


def test_any_number_of_processes_makes_the_same(tmp_path: Path) -> None:
    for workers in (1, 2, 3):
        write_shards(tiny_source(), tmp_path / str(workers), ShardOptions(shard_samples=8), workers=workers)
    assert contents(tmp_path / "1") == contents(tmp_path / "2") == contents(tmp_path / "3")


@pytest.mark.parametrize(("codec", "suffix"), [("png", "png"), ("jpeg", "jpg"), ("webp", "webp"), ("npy", "npy")])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_every_codec_keeps_the_image(tmp_path: Path, codec: str, suffix: str, channels: int) -> None:
    smooth = np.linspace(0, 255, 16 * 16, dtype=np.uint8).reshape(1, 1, 16, 16).repeat(channels, 1).repeat(3, 0)
    smooth[:, 3:] = 255
    source = from_arrays("smooth", smooth)
    can = {"jpeg": (1, 3), "webp": (3,)}.get(codec, (1, 2, 3, 4))
    if channels not in can:
        with pytest.raises(DataError, match=f"codec {codec} supports .* channels, not {channels}"):
            write_shards(source, tmp_path / "set", ShardOptions(codec=codec))
        return
    write_shards(source, tmp_path / "set", ShardOptions(codec=codec, quality=100))
    with tarfile.open(tmp_path / "set" / "shard-000000.tar") as tar:
        assert tar.getnames() == [f"{number:09d}.{suffix}" for number in range(3)]
    dataset = ShardDataset(tmp_path / "set")
    images = dataset.read(list(dataset.locations()))["image"]
    assert np.abs(images.astype(int) - smooth).max() <= (2 if codec == "jpeg" else 0)


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """A folder of good and bad files, with captions."""
    folder = tmp_path / "mixed"
    for name, size in (("cat/a", (8, 8)), ("cat/b", (9, 20)), ("dog/c", (8, 8)), ("dog/small", (4, 4))):
        path = folder / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, "red").save(path)
    (folder / "cat" / "a.txt").write_text("a red cat: ж")
    (folder / "dog" / "c.json").write_text('{"tail": true}')
    (folder / "dog" / "broken.jpg").write_bytes(b"\xff\xd8\xff nonsense")
    (folder / "dog" / "dangling.png").symlink_to(tmp_path / "gone.png")
    Image.new("1", (12_000, 12_000)).save(folder / "dog" / "bomb.png")
    (folder / "README").write_text("not an image")
    return folder


def test_every_image_is_in_the_set_or_in_the_list(tmp_path: Path, mixed: Path) -> None:
    source = from_files(Place(mixed))
    manifest = write_shards(source, tmp_path / "set", ShardOptions(protocol=ImageProtocol(8, 8)))
    rejected = [json.loads(line) for line in (tmp_path / "set" / "rejected.jsonl").read_text().splitlines()]
    assert {entry["source"]: entry["reason"] for entry in rejected} == {
        "dog/bomb.png": "bomb",
        "dog/broken.jpg": "unreadable",
        "dog/dangling.png": "missing",
        "dog/small.png": "size",
    }
    assert manifest.rejected == 4
    assert manifest.count + manifest.rejected == len(source.items)
    assert manifest.class_histogram == [2, 1]
    assert source.left_aside.total == 1


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # webdataset leaves files open
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_captions_are_kept_as_fields(tmp_path: Path, mixed: Path) -> None:
    manifest = write_shards(from_files(Place(mixed)), tmp_path / "set", ShardOptions(protocol=ImageProtocol(8, 8)))
    assert manifest.fields["text"] == FieldSpec("text", (13,), "uint8", codec="txt")
    assert manifest.members == ("json",)
    dataset = ShardDataset(tmp_path / "set")
    fields = dataset.read(list(dataset.locations()))
    texts = [row.tobytes().rstrip(b"\0").decode() for row in fields["text"]]
    assert texts == ["a red cat: ж", "", ""]
    samples = list(webdataset.WebDataset(str(tmp_path / "set" / "shard-000000.tar"), shardshuffle=False).decode())
    assert samples[0]["txt"] == "a red cat: ж"
    assert samples[2]["json"] == {"tail": True}
    assert [sample["cls"] for sample in samples] == [0, 0, 1]


def test_files_can_be_kept_byte_for_byte(tmp_path: Path, mixed: Path) -> None:
    manifest = write_shards(
        from_files(Place(mixed)), tmp_path / "set", ShardOptions(protocol=ImageProtocol(8, 8), codec="source")
    )
    assert (manifest.codec, manifest.count) == ("source", 2)
    with tarfile.open(tmp_path / "set" / "shard-000000.tar") as tar:
        assert tar.extractfile(tar.getnames()[0]).read() == (mixed / "cat" / "a.png").read_bytes()


def test_a_source_without_one_usable_image_is_refused(tmp_path: Path, mixed: Path) -> None:
    with pytest.raises(DataError, match="none of 7 images is usable; the first, cat/a.png: size, 8x8, smaller than"):
        write_shards(from_files(Place(mixed)), tmp_path / "set", ShardOptions(protocol=ImageProtocol(99, 99)))
    assert not (tmp_path / "set").exists()
    with pytest.raises(DataError, match="no images in it"):
        write_shards(replace(tiny_source(), items=[]), tmp_path / "set")


def test_the_size_of_images_that_are_alike_is_found(tmp_path: Path) -> None:
    images = np.zeros((9, 3, 5, 7), np.uint8)
    (tmp_path / "in").mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image.transpose(1, 2, 0)).save(tmp_path / "in" / f"{number}.png")
    Image.new("RGB", (9, 9)).save(tmp_path / "in" / "9.png")
    manifest = write_shards(from_files(Place(tmp_path / "in")), tmp_path / "set")
    assert (manifest.shape, manifest.count, manifest.rejected) == ((3, 5, 7), 9, 1)
    for number in range(4):
        Image.new("RGB", (9, 9)).save(tmp_path / "in" / f"{number}.png")
    with pytest.raises(DataError, match=r"images of several sizes \(9x9, 5x7 \.\.\.\): choose a --resolution"):
        write_shards(from_files(Place(tmp_path / "in")), tmp_path / "other")


def test_shards_have_about_the_size_that_is_asked_for(tmp_path: Path) -> None:
    source = from_arrays("noise", np.random.default_rng(0).integers(0, 256, (400, 3, 16, 16), dtype=np.uint8))
    manifest = write_shards(source, tmp_path / "set", ShardOptions(shard_bytes=100_000))
    sizes = [shard.bytes for shard in manifest.shards[:-1]]
    assert len(sizes) >= 3
    assert all(80_000 < size <= 110_000 for size in sizes)
    few = np.zeros((2400, 1, 2, 2), np.uint8)
    manifest = write_shards(from_arrays("few", few), tmp_path / "few", ShardOptions(shard_bytes=1_300_000))
    assert manifest.shards[0].count > 1000  # the default number of samples is no limit beside one in bytes


def test_the_shuffle_is_a_function_of_the_seed() -> None:
    source = tiny_source()
    one, same, other = source.shuffled(1), source.shuffled(1), source.shuffled(2)
    assert one.items == same.items != other.items
    assert sorted(one.items) == sorted(source.items) != one.items


def test_a_test_split_is_held_out(tmp_path: Path) -> None:
    made = prepare(tiny_source(), tmp_path / "set", PrepareOptions(test_samples=7, max_samples=40, shard_samples=8))
    assert {path.name: manifest.count for path, manifest in made.items()} == {"set-test": 7, "set": 33}
    seen = set()
    for folder in made:
        dataset = ShardDataset(folder)
        seen |= {image.tobytes() for image in dataset.read(list(dataset.locations()))["image"]}
    assert len(seen) == 40


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (PrepareOptions(crop="top"), "unknown crop 'top': choose one of center, none, pad"),
        (PrepareOptions(filter="cubic"), "unknown filter 'cubic'"),
        (PrepareOptions(channels=5), "unknown number of channels '5': choose one of 1, 2, 3, 4"),
        (PrepareOptions(crop="center"), "a crop 'center' needs a --resolution"),
        (PrepareOptions(codec="gif"), "unknown codec 'gif'"),
        (PrepareOptions(codec="jpeg", quality=0), "a quality is 1 to 100, not 0"),
        (PrepareOptions(test_samples=50), "cannot hold out 50 of 50 samples"),
        (PrepareOptions(max_samples=0), "at least one sample"),
        (PrepareOptions(seed=-1), "0 or more"),
        (PrepareOptions(codec="source"), "pixels, not a file"),
    ],
)
def test_an_option_that_makes_no_sense_is_one_line(tmp_path: Path, options: PrepareOptions, words: str) -> None:
    with pytest.raises(DataError) as caught:
        prepare(tiny_source(), tmp_path / "set", options)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_sizes_are_read_as_people_write_them() -> None:
    assert (parse_resolution("256"), parse_resolution("128x256")) == ((256, 256), (128, 256))
    assert [parse_bytes(text) for text in ("10", "2k", "256M", "1G")] == [10, 2048, 2**28, 2**30]
    for wrong in ("", "x", "3x", "axb", "0", "-1"):
        with pytest.raises(DataError, match="write 256, or 128x256"):
            parse_resolution(wrong + "x1" if wrong == "3x" else wrong)
    for wrong in ("", "M", "1T", "0"):
        with pytest.raises(DataError, match="write a number of bytes"):
            parse_bytes(wrong)


def test_parts_make_the_same_set(tmp_path: Path) -> None:
    source, options = tiny_source(), PrepareOptions(shard_samples=8, test_samples=10)
    whole = prepare(source, tmp_path / "whole", options)
    for number in (2, 0, 3, 1):
        assert prepare(source, tmp_path / "set", options, part=Part(number, 4)) == {}
        assert not (tmp_path / "set").exists()
    unread = replace(source, reader=Failing(np.empty((0,), np.uint8)))  # nothing is made anew
    made = prepare(unread, tmp_path / "set", replace(options, resolution=None))
    assert [manifest.digest for manifest in made.values()] == [manifest.digest for manifest in whole.values()]
    assert contents(tmp_path / "set") == contents(tmp_path / "whole")
    assert not list(tmp_path.glob("*.partial"))


def test_parts_that_are_missing_are_made_by_who_finishes(tmp_path: Path) -> None:
    source = tiny_source()
    whole = write_shards(source, tmp_path / "whole", ShardOptions(shard_samples=8))
    write_part(source, tmp_path / "set", Part(1, 3), ShardOptions(shard_samples=8))
    assert write_shards(source, tmp_path / "set", ShardOptions(shard_samples=8)) == whole


def test_a_part_is_made_once_and_none_while_the_set_is_finished(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    with Preparation(folder, "x", Part(0, 2)), Preparation(folder, "x", Part(1, 2)):
        with pytest.raises(DataError, match="another process is preparing part 1/2 of this dataset"):
            Preparation(folder, "x", Part(1, 2)).__enter__()
        with pytest.raises(DataError, match="another process is preparing this dataset"):
            Preparation(folder, "x").__enter__()
    with Preparation(folder, "x"), pytest.raises(DataError, match="part 1/2 of this dataset, or all of it"):
        Preparation(folder, "x", Part(1, 2)).__enter__()
    for text in ("8/8", "1", "-1/2", "a/b"):
        with pytest.raises(DataError, match=f"part '{text}': write 0/8 for the first of eight"):
            Part.parse(text)
