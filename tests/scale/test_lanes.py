"""128 nodes of 8 ranks: each reads its part of the shards, and a batch has the same samples on any number of ranks."""

from pathlib import Path

import pytest

from data_pipelines.batches import BatchMaker, BatchPlan
from data_pipelines.errors import DataError
from data_pipelines.faults import FaultLog
from tests.scale.test_manifests import large

NODES, BATCH, STEPS = 128, 32_768, 100


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hundred million samples in 100,000 shards."""
    folder = tmp_path_factory.mktemp("large")
    large(folder, 0, shards=100_000)
    return folder


def maker(dataset: Path, world: int, rank: int, lanes: int = 128, pieces: int = 1) -> BatchMaker:
    plan = BatchPlan(str(dataset), 1, BATCH, rank, world, pieces, lanes=lanes, held_out=0.01)
    return BatchMaker(plan, plan.open(FaultLog()), FaultLog())


def shards_of(whole: BatchMaker, node: int, steps: range) -> set[int]:
    """Return the shards that the ranks of a node read in some steps: their parts of a batch are neighbours."""
    part = BATCH // NODES
    starts = [step * BATCH + node * part for step in steps]
    return {one.shard for start in starts for one in whole.order.locate_span(start, start + part)}


@pytest.mark.parametrize("lanes", [128, pytest.param(512, marks=pytest.mark.slow)])
def test_a_node_reads_its_part_of_the_shards(dataset: Path, lanes: int) -> None:
    steps = range(0, STEPS, 10)  # a window lasts for dozens of them
    nodes = [shards_of(maker(dataset, 1, 0, lanes), node, steps) for node in range(32)]
    assert sum(map(len, nodes)) <= 1.05 * len(set().union(*nodes))
    nodes = [shards_of(maker(dataset, 1, 0, 1), node, range(0, STEPS, 20)) for node in range(8)]
    assert sum(map(len, nodes)) > 2 * len(set().union(*nodes))  # without lanes, every node meets nearly every shard


def test_the_same_samples_on_any_number_of_ranks(dataset: Path) -> None:
    start = 12_345 * BATCH
    samples = {}
    for world, some in ((8, range(8)), (64, (0, 9, 63)), (1024, (0, 500, 1023))):
        for rank in some:
            one = maker(dataset, world, rank)
            for position, location in zip(one.positions(start), one.locations(start), strict=True):
                assert samples.setdefault(position, location) == location
    assert len(samples) == BATCH
    cut = maker(dataset, 8, 3, pieces=4)  # in micro-batches: other positions, the same sample at each
    assert all(samples[at] == found for at, found in zip(cut.positions(start), cut.locations(start), strict=True))


def test_lanes_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not divide into 3 lanes"):
        BatchPlan("x", 1, 32, lanes=3)
    large(tmp_path, 0, shards=1)
    plan = BatchPlan(str(tmp_path), 1, 2048, lanes=2048)
    with pytest.raises(DataError, match="an order of 1000 samples does not divide into 2048 lanes"):
        BatchMaker(plan, plan.open(FaultLog()), FaultLog())
