"""Several datasets as one stream: shares as asked, samples in their turns, the same on any number of ranks."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bigtrain.core.config import ConfigError, parse_config
from bigtrain.engine.blend_config import BlendConfig
from bigtrain.engine.stream_config import Share
from data_pipelines.blend import BlendPlan, Mixture, Weight
from data_pipelines.errors import DataError
from data_pipelines.faults import FaultLog
from data_pipelines.stream import BatchStream
from data_pipelines.write import ShardOptions, write_shards
from tests.conftest import tiny_source

COUNTS = {"a": 50, "b": 30, "c": 20}


@pytest.fixture
def places(tmp_path: Path) -> dict[str, str]:
    """Three datasets, whose images differ; the third one lies in other files."""
    for seed, (name, count) in enumerate(COUNTS.items()):
        codec = "npy" if name == "c" else "png"
        write_shards(tiny_source(count, seed=seed), tmp_path / name, ShardOptions(shard_samples=8, codec=codec))
    return {name: str(tmp_path / name) for name in COUNTS}


def plan_of(places: Mapping[str, str], **options: Any) -> BlendPlan:
    weights = {name: Weight((0.0,), (share,)) for name, share in zip(places, (5.0, 3.0, 2.0), strict=False)}
    return replace(BlendPlan("blend", seed=7, global_batch=8, window=2, places=places, weights=weights), **options)


def images(plan: BlendPlan, start: int, batches: int) -> list[bytes]:
    """The images of the global batches from a position on, in the order of their positions."""
    ranks = [BatchStream(replace(plan, rank=rank)) for rank in range(plan.world_size)]
    found: dict[int, bytes] = {}
    for stream in ranks:
        stream.seek(start)
        for _ in range(batches):
            batch = next(stream)
            found |= {
                int(place): image.tobytes() for place, image in zip(batch.positions, batch.fields["image"], strict=True)
            }
        stream.close()
    return [found[place] for place in sorted(found)]


def test_shares_are_as_asked_and_samples_come_in_turn(places: dict[str, str]) -> None:
    plan = plan_of(places)
    dataset = plan.open(FaultLog())
    locations = plan.order(dataset).locate_span(0, 10_000)
    owner = {shard: name for name, shards in dataset.shards_of.items() for shard in shards}
    came = Counter(owner[shard] for shard, _ in locations)
    assert came == pytest.approx({"a": 5000, "b": 3000, "c": 2000}, abs=60)
    for name, count in COUNTS.items():
        own = [location for location in locations if owner[location.shard] == name]
        assert all(len(set(own[first : first + count])) == count for first in range(0, len(own) - count, count))


def test_a_run_sees_the_same_on_two_one_and_four_ranks(places: dict[str, str]) -> None:
    plan = plan_of(places)
    whole = images(plan, 0, 9)
    parts = [images(replace(plan, world_size=size), 24 * number, 3) for number, size in enumerate((2, 1, 4))]
    assert [image for part in parts for image in part] == whole
    assert len(set(whole)) > 60


def test_processes_read_the_same(places: dict[str, str]) -> None:
    plan = plan_of(places)
    stream = BatchStream(plan, loader="processes", workers=1)
    first = [image.tobytes() for image in next(stream).fields["image"]]
    stream.close()
    assert first == images(plan, 0, 1)


def test_weights_change_as_their_schedule_says() -> None:
    total = 400_000
    mixture = Mixture([Weight((0.0, float(total)), (1.0, 0.0)), Weight((0.0, float(total)), (0.0, 1.0))], seed=5)
    halves = [mixture.counts(total // 4096 * share // 2)[0] for share in (1, 2)]
    np.testing.assert_allclose(halves[0] / halves[0].sum(), [0.75, 0.25], atol=0.01)
    np.testing.assert_allclose(halves[1] / halves[1].sum(), [0.5, 0.5], atol=0.01)
    assert mixture.counts(3000)[1].tolist() == [0, 4096]
    fresh = Mixture([Weight((0.0, float(total)), (1.0, 0.0)), Weight((0.0, float(total)), (0.0, 1.0))], seed=5)
    assert fresh.counts(2500)[0].tolist() == mixture.counts(2500)[0].tolist()
    whole = list(mixture.span(4000, 4200))
    alone = [(number, int(own[0])) for place in range(4000, 4200) for number, _, own in mixture.span(place, place + 1)]
    together = {
        4000 + int(at): (number, int(one)) for number, places, own in whole for at, one in zip(places, own, strict=True)
    }
    assert [together[place] for place in range(4000, 4200)] == alone


def test_held_out_samples_never_come(places: dict[str, str]) -> None:
    plan = plan_of(places, held_out=0.2)
    order = plan.order(plan.open(FaultLog()))
    assert len(set(order.locate_span(0, 2000))) == 80


def test_a_damaged_sample_is_replaced_by_one_of_its_dataset(places: dict[str, str]) -> None:
    shard = next(Path(places["b"]).glob("*.tar"))
    shard.write_bytes(b"\0" * shard.stat().st_size)
    stream = BatchStream(plan_of(places, on_corrupt="replace"))
    for _ in range(30):
        next(stream)
    stream.close()
    assert stream.faults.replaced > 0


def test_datasets_that_do_not_fit_are_one_line(places: dict[str, str], tmp_path: Path) -> None:
    write_shards(tiny_source(8, size=4), tmp_path / "small")
    with pytest.raises(DataError, match="field 'image' has another shape, type or rate in small than in a"):
        plan_of({**places, "small": str(tmp_path / "small")}).open(FaultLog())


def test_the_config() -> None:
    parts = {"a": {"path": "x", "weight": {"kind": "linear", "value": 1.0}}, "b": {"path": "y"}}
    config = parse_config(BlendConfig, {"kind": "blend", "resolution": 8, "parts": parts}, source="test")
    plan = config.plan(Share(seed=0, global_batch=4, total=1023))
    assert plan.weights["b"] == Weight((0.0,), (1.0,))
    assert plan.weights["a"].values[::1023] == (1.0, 0.0)
    for bad, words in (
        ({"a": parts["a"]}, "two datasets or more"),
        ({"a": {"path": "x", "weight": 0.0}, "b": {"path": "y", "weight": 0.0}}, "all weights are 0"),
    ):
        with pytest.raises(ConfigError, match=words):
            parse_config(BlendConfig, {"kind": "blend", "resolution": 8, "parts": bad}, source="test")
