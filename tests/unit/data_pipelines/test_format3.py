"""Sets of format 3, made before samples had named fields, go on working; `format3/` was written by that version."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data_pipelines.batches import BatchPlan
from data_pipelines.errors import DataError
from data_pipelines.fields.spec import FieldSpec
from data_pipelines.manifest import Manifest
from data_pipelines.prepare.arrays import from_arrays
from data_pipelines.prepare.captions import caption_field
from data_pipelines.read import ShardDataset
from data_pipelines.stream import BatchStream
from data_pipelines.verify import verify
from data_pipelines.write import ShardOptions, write_shards

FOLDER = Path(__file__).parent / "format3"
PIXELS = np.load(FOLDER / "pixels.npy")
LABELS = [0, 1, 0, 1, 1, 0]


def test_its_image_and_class_are_fields() -> None:
    dataset = ShardDataset(FOLDER / "labelled")
    manifest = dataset.manifest
    assert manifest.fields == {
        "image": FieldSpec("image", (3, 4, 4), "uint8", codec="png"),
        "class": FieldSpec("class", (), "int64", ("cat", "dog")),
    }
    assert manifest.members == ("txt",)
    fields = dataset.read(list(dataset.locations()))
    np.testing.assert_array_equal(fields["image"], PIXELS)
    assert fields["class"].tolist() == LABELS
    assert verify(FOLDER / "labelled", deep=True) == []


def test_its_digest_stays(tmp_path: Path) -> None:
    manifest = Manifest.load(FOLDER / "labelled")
    assert manifest.digest == "471a4e2c953a71f6e35aa9b2b6bba8cdf58a6fb3a335ddb78086bc341448db24"
    manifest.save(tmp_path)
    assert Manifest.load(tmp_path) == manifest
    plain = Manifest.load(FOLDER / "plain")
    assert plain.digest == "54eb52262cda2b78899acac5b2b203f5c7eaeec721fc640310365b878b49e33c"
    assert (plain.shape, plain.codec, plain.classes, plain.members) == ((1, 4, 4), "npy", (), ())


def test_it_is_not_prepared_over(tmp_path: Path) -> None:
    folder = shutil.copytree(FOLDER / "plain", tmp_path / "set")
    with pytest.raises(DataError, match="set: exists already, and was not made from this source with these options"):
        write_shards(
            from_arrays("format3-plain", PIXELS[:2, :1], origin="made by hand"), folder, ShardOptions(codec="npy")
        )


def test_it_is_trained_on() -> None:
    stream = BatchStream(BatchPlan(str(FOLDER / "labelled"), seed=0, global_batch=6))
    batch = next(stream)
    stream.close()
    order = [int(np.flatnonzero((image == PIXELS).all((1, 2, 3)))[0]) for image in batch.fields["image"]]
    assert sorted(order) == list(range(6))
    assert batch.fields["class"].tolist() == [LABELS[number] for number in order]


def test_unlabelled_samples_have_no_class() -> None:
    stream = BatchStream(BatchPlan(str(FOLDER / "plain"), seed=0, global_batch=2))
    assert next(stream).fields["class"].tolist() == [-1, -1]
    stream.close()


def test_the_same_images_make_the_same_tars_today(tmp_path: Path) -> None:
    source = from_arrays("format3", PIXELS, LABELS, classes=["cat", "dog"])
    texts = [{"text": f"caption {number}".encode()} if number % 2 else {} for number in range(6)]
    items = [item._replace(fields=text) for item, text in zip(source.items, texts, strict=True)]
    labelled = write_shards(
        replace(source, items=items, fields=caption_field([9])), tmp_path / "a", ShardOptions(shard_samples=3)
    )
    plain = write_shards(from_arrays("format3-plain", PIXELS[:2, :1]), tmp_path / "b", ShardOptions(codec="npy"))
    for name, made in (("labelled", labelled), ("plain", plain)):
        before = Manifest.load(FOLDER / name)
        assert [shard.sha256 for shard in made.shards] == [shard.sha256 for shard in before.shards]


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("resolution", True, "resolution is not a number"),
        ("width", 0, "width is not a number"),
        ("channels", 5, "channels is not 1, 2, 3 or 4"),
        ("codec", "gif", "codec 'gif' is not one of source, png"),
        ("classes", ["cat", 3], "field 'class' classes is not a list of names"),
        ("smell", 1, "the manifest has unknown smell"),
    ],
)
def test_a_damaged_one_is_one_clear_line(tmp_path: Path, key: str, value: object, words: str) -> None:
    folder = shutil.copytree(FOLDER / "labelled", tmp_path / "set")
    document = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**document, key: value}))
    with pytest.raises(DataError, match=f"damaged manifest: {words}"):
        Manifest.load(folder)
