"""A set on a server that eight nodes read by lanes: who fetches what, how often, and what an outage changes."""

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from data_pipelines.batches import BatchMaker, BatchPlan, CachePlan
from data_pipelines.faults import FaultLog
from data_pipelines.fields.decoder import new_batch
from data_pipelines.manifest import Manifest
from data_pipelines.source import ArrayReader, Item, Source
from data_pipelines.write import ShardOptions, write_shards
from tests.unit.data_pipelines.faulty_server import serve

NODES, RANKS, SHARDS, SAMPLES, BATCH = 8, 2, 64, 64, 128


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """64 shards of 64 images of noise, about 12 MB in all."""
    images = np.random.default_rng(0).integers(0, 256, (SHARDS * SAMPLES, 3, 32, 32), dtype=np.uint8)
    items = [Item(str(number), number) for number in range(len(images))]
    source = Source("noise", items, ArrayReader(images), (), "none", "made up")
    folder = tmp_path_factory.mktemp("noise") / "set"
    write_shards(source, folder, ShardOptions(shard_samples=SAMPLES))
    return folder


def read_an_epoch(place: str, caches: Path) -> tuple[dict[int, bytes], int]:
    """Let all ranks of all nodes read an epoch side by side; return each sample's bytes by position, and the faults."""
    samples: dict[int, bytes] = {}
    replaced = []

    def one(rank: int) -> None:
        faults = FaultLog()
        cache = CachePlan(str(caches / f"node{rank // RANKS}"), patience_s=240.0)
        plan = BatchPlan(place, 1, BATCH, rank, NODES * RANKS, lanes=NODES, window=2, cache=cache, on_corrupt="replace")
        maker = BatchMaker(plan, plan.open(faults), faults)
        out = new_batch(maker.decoders, plan.size)
        for start in range(0, SHARDS * SAMPLES, BATCH):
            maker.make(start, out)
            for position, image in zip(maker.positions(start), out["image"], strict=True):
                samples[position] = image.tobytes()
        replaced.append(faults.replaced)

    with ThreadPoolExecutor(NODES * RANKS) as threads:
        list(threads.map(one, range(NODES * RANKS)))
    return samples, sum(replaced)


@pytest.mark.slow
def test_each_shard_is_fetched_by_one_node_also_through_failures(dataset: Path, tmp_path: Path) -> None:
    shards = [shard.url for shard in Manifest.load(dataset).shards]
    expected, _ = read_an_epoch(str(dataset), tmp_path / "none")
    with serve(dataset) as server:
        server.misdeeds.update({name: ["503", "reset"] for name in shards[::4]})
        found, replaced = read_an_epoch(server.url, tmp_path / "failing")
        fetched = Counter({name: count for name, count in server.requests.items() if name in shards})
    assert found == expected and replaced == 0
    assert set(fetched) == set(shards)
    served = fetched.total() - 2 * len(shards[::4])
    assert served <= 1.05 * len(shards)
    requests = server.requests.total() - 2 * len(shards[::4]) - NODES * RANKS  # and a manifest a rank
    assert requests <= 2.05 * len(shards), "a shard and its index: 20 requests a GiB, of shards of 100 MB"


@pytest.mark.slow
def test_an_outage_replaces_nothing(dataset: Path, tmp_path: Path) -> None:
    expected, _ = read_an_epoch(str(dataset), tmp_path / "none")
    found: list[tuple[dict[int, bytes], int]] = []
    with serve(dataset) as server:
        port = server.server_port
        reading = threading.Thread(target=lambda: found.append(read_an_epoch(server.url, tmp_path / "outage")))
        reading.start()
        while sum(server.requests.values()) < SHARDS // 2:
            time.sleep(0.01)
    time.sleep(60)  # nobody listens
    with serve(dataset, port):
        reading.join()
    assert found == [(expected, 0)]
