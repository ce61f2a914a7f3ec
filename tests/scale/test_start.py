"""What the ranks of a run ask the file system for as they start: all but the first, next to nothing."""

import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist

from bigtrain.config import load_training
from bigtrain.distributed.collectives import checked_by_rank_zero
from bigtrain.distributed.init import Ranks
from bigtrain.run.data import open_data
from bigtrain.run.data_checks import check_data
from data_pipelines.errors import DataError, UnreachableError
from data_pipelines.fields.spec import FieldSpec
from data_pipelines.prepare.arrays import from_fields
from data_pipelines.write import ShardOptions, write_shards
from tests.conftest import ROOT
from tests.distributed.ranks import on_ranks

KINDS = (UnreachableError, DataError)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of 100 shards."""
    folder = tmp_path_factory.mktemp("data") / "shards"
    images = np.zeros((100, 1, 32, 32), dtype=np.uint8)
    source = from_fields("black", {"image": images}, {"image": FieldSpec("image", (1, 32, 32), "uint8", codec="png")})
    write_shards(source, folder, ShardOptions(shard_samples=1))
    return folder


def calls_of_a_start(shards: Path, folder: Path) -> list[Any]:
    """Check and open the data of a run; return how often this rank asked for files, and what errors it meets."""
    overrides = [f"data.path={shards}", "data.classes=0", f"run_dir={folder / 'run'}", "health.held_out=0.1"]
    config = load_training(ROOT / "tests" / "tiny.yaml", overrides)
    asked: list[str] = []
    really = os.stat

    def counted(path: Any, *arguments: Any, **options: Any) -> os.stat_result:
        asked.append(str(path))
        return really(path, *arguments, **options)

    os.stat = counted  # type: ignore[assignment]
    rank, size = dist.get_rank(), dist.get_world_size()
    checked_by_rank_zero(lambda: [check_data(config), None][1], KINDS)
    _, stream = open_data(config, Ranks(rank, size, rank, torch.device("cpu")), folder / "quarantine")
    stream.close()
    os.stat = really

    met = []
    for kind in (UnreachableError, DataError, ZeroDivisionError):
        try:
            checked_by_rank_zero(partial(_fail, kind, rank), KINDS)
        except Exception as error:
            met.append(f"{type(error).__name__}: {error}")
    return [sum(str(shards) in path for path in asked), met]


def _fail(kind: type[Exception], rank: int) -> None:
    raise kind(f"found by rank {rank}")


def test_one_rank_looks_for_the_shards_for_all(shards: Path, tmp_path: Path) -> None:
    (first, errors), (other, others) = on_ranks(2, calls_of_a_start, tmp_path, shards, tmp_path)
    assert first > 100
    assert other <= 50
    assert errors == [f"{kind}: found by rank 0" for kind in ("UnreachableError", "DataError", "ZeroDivisionError")]
    assert others == [*errors[:2], "RuntimeError: rank 0 failed: found by rank 0"]
