"""Writing, reading, streaming and verifying shards."""

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import webdataset
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipelines.batches import BatchPlan
from data_pipelines.errors import DataError
from data_pipelines.manifest import Manifest
from data_pipelines.order import Location
from data_pipelines.read import ShardDataset
from data_pipelines.stream import BatchStream
from data_pipelines.verify import verify
from data_pipelines.write import ShardOptions, write_shards
from tests.conftest import tiny_source


@pytest.mark.parametrize("codec", ["png", "npy"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("classes", [0, 3])
def test_what_is_written_is_read(tmp_path: Path, codec: str, channels: int, classes: int) -> None:
    source = tiny_source(21, channels=channels, classes=classes)
    manifest = write_shards(source, tmp_path / "set", ShardOptions(codec=codec, shard_samples=8))
    assert [shard.count for shard in manifest.shards] == [8, 8, 5]
    assert manifest.class_histogram == [7] * classes
    dataset = ShardDataset(tmp_path / "set")
    fields = dataset.read(list(dataset.locations()))
    np.testing.assert_array_equal(fields["image"], np.stack([source.reader.read(item.where) for item in source.items]))
    assert fields["class"].tolist() == [item.label for item in source.items]
    assert verify(tmp_path / "set", deep=True) == []


def test_equal_images_make_equal_digests(tmp_path: Path) -> None:
    one = write_shards(tiny_source(), tmp_path / "one", ShardOptions(shard_samples=8))
    same = write_shards(tiny_source(), tmp_path / "same", ShardOptions(shard_samples=8))
    other = write_shards(tiny_source(seed=1), tmp_path / "other", ShardOptions(shard_samples=8))
    assert one.digest == same.digest != other.digest


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # webdataset leaves files open
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_plain_webdataset_and_tar_read_the_shards(tiny_shards: Path) -> None:
    source = tiny_source()
    pipeline = (
        webdataset.WebDataset(str(tiny_shards / "shard-000001.tar"), shardshuffle=False)
        .decode("l8")
        .to_tuple("png", "cls")
    )
    samples = list(pipeline)
    assert len(samples) == 8
    for (image, label), item in zip(samples, source.items[8:16], strict=True):
        np.testing.assert_array_equal(image, source.reader.read(item.where)[0])
        assert label == item.label
    with tarfile.open(tiny_shards / "shard-000001.tar") as tar:
        assert tar.getnames()[:2] == ["000000008.png", "000000008.cls"]


def stream(folder: Path, *, workers: int = 1, **plan: int) -> BatchStream:
    return BatchStream(BatchPlan(str(folder), seed=5, global_batch=12, window=2, **plan), workers=workers)


@given(world=st.sampled_from([1, 2, 3, 4, 6]), workers=st.integers(1, 3), start=st.integers(0, 9))
@settings(deadline=None, max_examples=25)
def test_any_number_of_ranks_and_workers_sees_the_same_samples(
    tmp_path_factory, world: int, workers: int, start: int
) -> None:
    folder = tmp_path_factory.getbasetemp() / "tiny-stream"
    if not folder.exists():
        write_shards(tiny_source(), folder, ShardOptions(shard_samples=8))
    reference = stream(folder)
    reference.seek(start * 12)
    ranks = [stream(folder, rank=rank, world_size=world, workers=workers) for rank in range(world)]
    for rank in ranks:
        rank.seek(start * 12)
    for _ in range(7):  # 84 samples cross the end of an epoch of 50
        expected, parts = next(reference), [next(rank) for rank in ranks]
        assert {len(part.positions) for part in parts} == {12 // world}
        np.testing.assert_array_equal(np.concatenate([part.positions for part in parts]), expected.positions)
        for name, array in expected.fields.items():
            np.testing.assert_array_equal(np.concatenate([part.fields[name] for part in parts]), array)
    for opened in (reference, *ranks):
        opened.close()


def test_a_stream_refuses_uneven_ranks_and_positions(tiny_shards: Path) -> None:
    with pytest.raises(ValueError, match="does not divide over 5 ranks"):
        stream(tiny_shards, world_size=5)
    with pytest.raises(ValueError, match="not a multiple"):
        stream(tiny_shards).seek(7)


def damage_missing(folder: Path) -> None:
    (folder / "shard-000002.tar").unlink()


def damage_truncated(folder: Path) -> None:
    with (folder / "shard-000002.tar").open("r+b") as file:
        file.truncate(1024)


def damage_payload(folder: Path) -> None:
    row = np.load(folder / "shard-000002.index.npy")[3]
    with (folder / "shard-000002.tar").open("r+b") as file:
        file.seek(int(row["offset"]) + 20)
        byte = file.read(1)[0]
        file.seek(-1, 1)
        file.write(bytes([byte ^ 4]))


def damage_index(folder: Path) -> None:
    rows = np.load(folder / "shard-000002.index.npy")
    np.save(folder / "shard-000002.index.npy", rows[:-1])


def damage_label(folder: Path) -> None:
    rows = np.load(folder / "shard-000002.index.npy")
    rows["label"][0] = (rows["label"][0] + 1) % 3
    np.save(folder / "shard-000002.index.npy", rows)


@pytest.mark.parametrize("damage", [damage_missing, damage_truncated, damage_payload, damage_index, damage_label])
def test_damage_is_found(tiny_shards: Path, damage) -> None:
    damage(tiny_shards)
    faults = verify(tiny_shards, deep=True)
    assert faults
    assert all("000002" in fault.file for fault in faults)


@pytest.mark.parametrize("damage", [damage_missing, damage_truncated, damage_payload, damage_index])
def test_damage_never_reaches_training_silently(tiny_shards: Path, damage) -> None:
    damage(tiny_shards)
    with pytest.raises(DataError, match="shard-000002"):
        dataset = ShardDataset(tiny_shards)
        dataset.read([Location(2, row) for row in range(8)])


def test_an_edited_manifest_is_noticed(tiny_shards: Path) -> None:
    path = tiny_shards / "manifest.json"
    document = json.loads(path.read_text())
    document["licence"] = "mine"
    path.write_text(json.dumps(document))
    with pytest.raises(DataError, match="digest does not match"):
        Manifest.load(tiny_shards)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: text[:40], "damaged manifest"),
        (lambda text: text.replace("bigtrain-shards/3", "x"), "not a manifest"),
    ],
)
def test_other_manifests_are_refused(tiny_shards: Path, change, words: str) -> None:
    path = tiny_shards / "manifest.json"
    path.write_text(change(path.read_text()))
    with pytest.raises(DataError, match=words):
        Manifest.load(tiny_shards)


def test_a_shard_cannot_point_outside_of_its_folder(tiny_shards: Path) -> None:
    path = tiny_shards / "manifest.json"
    path.write_text(path.read_text().replace('"shard-000001.tar"', '"../shard-000001.tar"'))
    with pytest.raises(DataError, match="outside"):
        Manifest.load(tiny_shards)


def test_missing_folders_say_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such dataset folder .*bigtrain data prepare"):
        Manifest.load(tmp_path / "nothing")
    with pytest.raises(DataError, match="no manifest.json"):
        Manifest.load(tmp_path)
