"""Several streams advance together, and each is as exact as one alone."""

import zlib
from pathlib import Path

import numpy as np
import pytest

from data_pipelines.batches import BatchPlan
from data_pipelines.errors import DataError
from data_pipelines.stream import BatchStream, HostBatch, Loader
from data_pipelines.streams import Streams, stream_seed
from data_pipelines.write import ShardOptions, write_shards
from tests.conftest import tiny_source


@pytest.fixture(scope="module")
def domains(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two sets of other images, of other numbers of samples."""
    folder = tmp_path_factory.mktemp("domains")
    write_shards(tiny_source(50), folder / "A", ShardOptions(shard_samples=8))
    write_shards(tiny_source(30, seed=1), folder / "B", ShardOptions(shard_samples=8))
    return {name: folder / name for name in ("A", "B")}


def plans(domains: dict[str, Path], **changes: object) -> dict[str, BatchPlan]:
    options = {"seed": 5, "global_batch": 12, "window": 2, **changes}
    return {name: BatchPlan(str(folder), **options) for name, folder in domains.items()}


def take(streams: Streams | BatchStream, count: int, position: int) -> list[HostBatch]:
    streams.seek(position)
    taken = []
    for _ in range(count):
        batch = next(streams)
        taken.append(HostBatch({name: array.copy() for name, array in batch.fields.items()}, batch.positions))
    streams.close()
    return taken


def assert_same(batches: list[HostBatch], expected: list[HostBatch]) -> None:
    for one, other in zip(batches, expected, strict=True):
        assert one.fields.keys() == other.fields.keys()
        assert one.positions.tolist() == other.positions.tolist()
        for name, array in other.fields.items():
            np.testing.assert_array_equal(one.fields[name], array)


def test_fields_are_called_by_stream_and_each_stream_is_as_one_alone(domains: dict[str, Path]) -> None:
    batches = take(Streams(plans(domains)), 6, 24)
    assert tuple(batches[0].fields) == ("A.image", "A.class", "B.image", "B.class")
    assert batches[0].positions.tolist() == list(range(24, 36))
    for name, folder in domains.items():
        plan = BatchPlan(str(folder), seed=stream_seed(5, name), global_batch=12, window=2)
        for batch, alone in zip(batches, take(BatchStream(plan), 6, 24), strict=True):
            for field, array in alone.fields.items():
                np.testing.assert_array_equal(batch.fields[f"{name}.{field}"], array)


def test_the_unnamed_stream_is_what_one_stream_was(domains: dict[str, Path]) -> None:
    (plan,) = plans({"": domains["A"]}).values()
    assert_same(take(Streams({"": plan}), 5, 12), take(BatchStream(plan), 5, 12))


def test_two_streams_of_one_set_come_in_other_orders(domains: dict[str, Path]) -> None:
    batches = take(Streams(plans({"A": domains["A"], "B": domains["A"]})), 4, 0)
    sums = {name: [zlib.crc32(image) for b in batches for image in b.fields[f"{name}.image"].copy()] for name in "AB"}
    assert sums["A"] != sums["B"]
    assert sum(one == other for one, other in zip(sums["A"], sums["B"], strict=True)) < 12
    assert stream_seed(5, "") == 5
    assert len({stream_seed(seed, name) for seed in range(3) for name in "AB"}) == 6


@pytest.mark.parametrize("loader", ["threads", "processes"])
def test_it_goes_on_on_any_number_of_ranks(domains: dict[str, Path], loader: Loader) -> None:
    whole, position = take(Streams(plans(domains)), 6, 0), 0
    for world in (2, 1, 4):
        ranks = [
            take(Streams(plans(domains, rank=rank, world_size=world), loader=loader), 2, position)
            for rank in range(world)
        ]
        for number in range(2):
            parts = [batches[number] for batches in ranks]
            expected = whole[position // 12]
            for name, array in expected.fields.items():
                np.testing.assert_array_equal(np.concatenate([part.fields[name] for part in parts]), array)
            position += 12


def test_damage_is_counted_over_all_streams_and_named_by_stream(domains: dict[str, Path], tmp_path: Path) -> None:
    broken = {name: tmp_path / name for name in domains}
    for name, seed in (("A", 0), ("B", 1)):
        write_shards(tiny_source(24, seed=seed), broken[name], ShardOptions(shard_samples=8))
        (broken[name] / "shard-000001.tar").unlink()
    listed = tmp_path / "quarantine.jsonl"
    streams = Streams(plans(broken, on_corrupt="replace"), quarantine=listed)
    take(streams, 2, 0)
    assert streams.faults.replaced >= 16
    assert streams.faults.retries == 0
    assert {fault.file for fault in streams.faults.quarantined} == {"A: shard-000001.tar", "B: shard-000001.tar"}
    assert len(listed.read_text().splitlines()) == 2


def test_streams_that_do_not_fit_are_refused(domains: dict[str, Path]) -> None:
    one, other = plans(domains).values()
    with pytest.raises(ValueError, match="need a name each"):
        Streams({"": one, "B": other})
    with pytest.raises(ValueError, match="need a name each"):
        Streams({})
    with pytest.raises(ValueError, match="the streams A, B cut batches in different ways"):
        Streams({"A": one, "B": BatchPlan(other.place, seed=5, global_batch=24)})
    with pytest.raises(DataError, match="no such dataset folder"):
        Streams({"A": one, "B": BatchPlan("nowhere", seed=5, global_batch=12)})
    streams = Streams(plans(domains))
    with pytest.raises(ValueError, match="not a multiple"):
        streams.seek(7)
    streams.close()
