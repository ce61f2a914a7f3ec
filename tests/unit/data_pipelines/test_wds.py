"""Our source in a plain `wds.DataPipeline`."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import webdataset

from data_pipelines.batches import BatchPlan
from data_pipelines.errors import DataError
from data_pipelines.stream import BatchStream
from data_pipelines.wds import WdsSource
from data_pipelines.write import write_shards
from tests.conftest import tiny_source

pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),  # webdataset leaves files open
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


def pipeline(source: WdsSource, batch: int) -> webdataset.DataPipeline:
    return webdataset.DataPipeline(
        source, webdataset.decode("l8"), webdataset.to_tuple("png", "cls"), webdataset.batched(batch)
    )


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_batches_come_in_the_streams_order(tiny_shards: Path, workers: int) -> None:
    plan = BatchPlan(str(tiny_shards), seed=5, global_batch=12, window=2, rank=1, world_size=2)
    loader = webdataset.WebLoader(
        pipeline(WdsSource(plan, start=24, batches=7), 6), batch_size=None, num_workers=workers
    )
    stream = BatchStream(plan)
    stream.seek(24)
    batches = list(loader)
    assert len(batches) == 7
    for images, labels in batches:
        expected = next(stream)
        np.testing.assert_array_equal(np.asarray(images), expected.fields["image"][:, 0])
        assert np.asarray(labels).tolist() == expected.fields["class"].tolist()


def test_samples_are_webdatasets_own(tiny_shards: Path) -> None:
    plan = BatchPlan(str(tiny_shards), seed=0, global_batch=50)
    ours = {sample["__key__"]: sample for sample in WdsSource(plan, batches=1)}
    urls = [str(path) for path in sorted(tiny_shards.glob("*.tar"))]
    theirs = list(webdataset.WebDataset(urls, shardshuffle=False))
    assert len(ours) == len(theirs) == 50
    for sample in theirs:
        assert {name: ours[sample["__key__"]][name] for name in ("png", "cls")} == {
            name: sample[name] for name in ("png", "cls")
        }


def test_a_damaged_sample_is_replaced(tiny_shards: Path) -> None:
    (tiny_shards / "shard-000002.tar").unlink()
    plan = BatchPlan(str(tiny_shards), seed=0, global_batch=50, on_corrupt="replace")
    samples = list(WdsSource(plan, batches=1))
    assert len(samples) == 50
    assert {sample["__key__"] for sample in samples} == {f"{n:09d}" for n in range(50) if n // 8 != 2}


def test_it_starts_on_a_batch(tiny_shards: Path) -> None:
    with pytest.raises(ValueError, match="not a multiple"):
        WdsSource(BatchPlan(str(tiny_shards), seed=0, global_batch=12), start=5)


def test_further_members_are_checked_too(tmp_path: Path) -> None:
    source = tiny_source(8)
    items = [item._replace(fields={"json": b'{"note": 1}'}) for item in source.items]
    write_shards(replace(source, items=items, members=("json",)), tmp_path / "set")
    (sample, *_) = WdsSource(BatchPlan(str(tmp_path / "set"), seed=0, global_batch=8), batches=1)
    assert sample["json"] == b'{"note": 1}'
    row = np.load(tmp_path / "set" / "shard-000000.index.npy")[0]
    with (tmp_path / "set" / "shard-000000.tar").open("r+b") as file:
        file.seek(int(row["json.offset"]))
        file.write(b"[")
    with pytest.raises(DataError, match="field 'json': its bytes do not match their checksum"):
        list(WdsSource(BatchPlan(str(tmp_path / "set"), seed=0, global_batch=8), batches=1))
