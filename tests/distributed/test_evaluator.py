"""An evaluator on several ranks: damaged references, and a stop in the middle."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from bigtrain.core.rng import Draws
from bigtrain.distributed.init import Ranks
from bigtrain.evaluation.errors import Interrupted
from bigtrain.evaluation.evaluator import Evaluator, ScoreConfig
from bigtrain.evaluation.images.generated import GeneratedImages
from bigtrain.evaluation.protocol import Sampling
from data_pipelines.batches import OnCorrupt
from data_pipelines.errors import DataError
from data_pipelines.faults import FaultLog
from data_pipelines.manifest import Manifest
from data_pipelines.read import ShardDataset
from tests.distributed.ranks import on_ranks

PIXELS = """
import torch

class Pixels(torch.nn.Module):
    def forward(self, image):
        return torch.nn.functional.adaptive_avg_pool2d(image[:, :1].float() / 255, 4).flatten(1)

build = Pixels
"""
"""An extractor that costs nothing: uint8 pixels, as small as they go."""


@pytest.fixture
def quarantine(tmp_path: Path) -> Path:
    """Where damage is listed, beside the extractor."""
    (tmp_path / "pixels.py").write_text(PIXELS)
    return tmp_path / "quarantine.jsonl"


def generate(draws: Draws) -> tuple[Tensor, Tensor]:
    return draws.uniform(1, 8, 8) * 2 - 1, draws.integers(3, 1).squeeze(1)


def images() -> GeneratedImages:
    return GeneratedImages(generate, 23, seed=3, device=torch.device("cpu"))


def evaluator(data: Path, quarantine: Path, on_corrupt: OnCorrupt = "replace") -> Evaluator:
    rank = dist.get_rank()
    ranks = Ranks(rank, dist.get_world_size(), rank, torch.device("cpu"))
    config = ScoreConfig(samples=23, extractor=f"file:{quarantine.with_name('pixels.py')}", batch=4)
    return Evaluator(config, ShardDataset(data), ranks, on_corrupt=on_corrupt, faults=FaultLog(quarantine))


def scores(data: Path, quarantine: Path) -> list[dict[str, Any]]:
    """Evaluate twice: the second time it is known what is damaged."""
    judge = evaluator(data, quarantine)
    found = [score for _ in range(2) for score in judge.run(images(), Sampling()).values()]
    return [{"value": s.value, "error": s.error, "reference": s.protocol.reference} for s in found]


def damage(data: Path) -> int:
    """Flip a bit of the first image, and lose the last shard; return how many images that hits."""
    first, *_, last = Manifest.load(data).shards
    content = bytearray((data / first.url).read_bytes())
    content[600] ^= 1
    (data / first.url).write_bytes(content)
    (data / last.url).unlink()
    return 1 + last.count


def test_damaged_references_are_replaced_and_counted_alike_on_any_number_of_ranks(
    tiny_shards: Path, tmp_path: Path, quarantine: Path, alone: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = Manifest.load(tiny_shards).digest
    monkeypatch.setenv("BIGTRAIN_CACHE", str(tmp_path / "first"))
    whole = scores(tiny_shards, quarantine)[0]
    assert whole["reference"] == digest
    hit = damage(tiny_shards)
    assert scores(tiny_shards, quarantine)[0] == whole  # what was kept of the whole images still holds
    monkeypatch.setenv("BIGTRAIN_CACHE", str(tmp_path / "second"))
    one, again = scores(tiny_shards, quarantine)
    assert one == again
    assert one["reference"] == f"{digest}, {hit} replaced"
    assert one["value"] != whole["value"]
    assert len(quarantine.read_text().splitlines()) == 2  # an image, and a shard
    for two in on_ranks(2, scores, tmp_path, tiny_shards, quarantine):
        for score in two:
            assert score["reference"] == one["reference"]
            assert score["value"] == pytest.approx(one["value"], rel=1e-5)
            assert score["error"] == pytest.approx(one["error"], rel=1e-4)
    monkeypatch.setenv("BIGTRAIN_CACHE", str(tmp_path / "third"))
    with pytest.raises(DataError, match="checksum|missing"):
        evaluator(tiny_shards, quarantine, "fail").run(images(), Sampling())


def stop_on_the_second_rank(data: Path, quarantine: Path) -> dict[str, Any]:
    """Ask one rank alone to stop, after some batches."""
    judge, asked = evaluator(data, quarantine), 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return dist.get_rank() == 1 and asked == 9

    try:
        judge.run(images(), Sampling(), stop=stop)
    except Interrupted:
        return {"interrupted": asked}
    return {"interrupted": 0}


def test_all_ranks_leave_together_when_one_is_asked_to_stop(
    tiny_shards: Path, tmp_path: Path, quarantine: Path
) -> None:
    told = on_ranks(2, stop_on_the_second_rank, tmp_path, tiny_shards, quarantine)
    assert told == [{"interrupted": 9}, {"interrupted": 9}]
