"""Whole runs that are stopped where every lazy term is due in the next step, the first one after the new start.

What a process does in its first steps alone, such as measuring them, must not show in a single bit.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from bigtrain.build import build
from bigtrain.chaos.compare import differences
from bigtrain.config import load_training
from bigtrain.distributed.collectives import barrier, is_rank_zero
from bigtrain.distributed.init import Ranks
from bigtrain.run.folder import open_run_folder
from bigtrain.tasks.terms import TermsConfig
from data_pipelines.write import ShardOptions, write_shards
from tests.conftest import ROOT, tiny_source
from tests.distributed.ranks import on_ranks

STEPS, DUE = 4, 2
NETWORK = {"kind": "stylegan2", "channel_base": 2048, "channel_max": 128}  # 128 channels go Winograd's way
LAZY = {"interval": DUE}
TERMS: dict[str, Any] = {
    "r1": {"gamma": 1.0, **LAZY},
    "r2": {"gamma": 1.0, "fp32": False, **LAZY},
    "path_length": {"shrink": 1, **LAZY},
}
MORE_TERMS: dict[str, Any] = {
    **dict.fromkeys(("wgan_gp", "dragan", "bcr", "zcr", "feature_matching"), LAZY),
    "lecam": {"weight": 0.1, **LAZY},
}
LEFT_OUT = {"auxiliary_classifier", "cr", "orthogonal"}
"""The first learns in every update, the second is a part of `bcr`, the third refuses this family: all are refused."""
STRATEGIES: dict[str, dict[str, Any]] = {
    **{kind: {"kind": kind} for kind in ("single", "ddp", "flat", "fsdp")},
    **{f"zero{stage}": {"kind": "deepspeed", "stage": stage} for stage in (0, 1, 2, 3)},
    "zero2_offload": {"kind": "deepspeed", "stage": 2, "offload_optimizer": True},
}
CONFIG: dict[str, Any] = {
    "generator": {**NETWORK, "z_dim": 8, "w_dim": 8, "mapping_layers": 1},
    "discriminator": {**NETWORK, "mbstd_group": 2},
    "data": {"resolution": 32, "channels": 1, "classes": 10},
    "global_batch": 8,
    "micro_batch": 4,
    "eval": {"interval_kimg": 0, "samples": 40, "reference_samples": 60},
    "preview": {"interval_kimg": 0},
    "snapshot": {"interval_kimg": 0},
    "log": {"interval_kimg": 0.008 * STEPS},
    "tracking": {"mlflow": False},
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_shards(tiny_source(400, size=32, classes=10), tmp_path / "data", ShardOptions(shard_samples=100))
    return tmp_path / "data"


def run(folder: Path, data: Path, precision: str, strategy: str, terms: dict[str, Any], *, until: int) -> None:
    """Train until so many steps are taken, as one of the ranks that are there."""
    own = {"precision": precision, "strategy": STRATEGIES[strategy], "objective": {"terms": terms}}
    changes = [f"{key}={json.dumps(value)}" for key, value in {**CONFIG, **own}.items()]
    paths = [f"run_dir={folder}", f"data.path={data}"]
    config = load_training(str(ROOT / "tests" / "tiny.yaml"), [*changes, *paths])
    if is_rank_zero():
        open_run_folder(config)
    barrier()
    trainer = build(config, Ranks(dist.get_rank(), dist.get_world_size(), dist.get_rank(), torch.device("cpu")), folder)
    trainer.early_stop.stop_at = until * trainer.progress.batch
    trainer.run()


def with_and_without_a_stop(
    root: Path, data: Path, cells: list[tuple[str, str]], terms: dict[str, Any] = TERMS
) -> None:
    """Train each cell, a precision and a strategy, twice."""
    for precision, strategy in cells:
        straight, resumed = (root / f"{name}-{precision}-{strategy}" for name in ("straight", "resumed"))
        run(straight, data, precision, strategy, terms, until=STEPS)
        run(resumed, data, precision, strategy, terms, until=DUE)
        run(resumed, data, precision, strategy, terms, until=STEPS)


def compare(root: Path, precision: str, strategy: str) -> list[str]:
    return differences(root / f"straight-{precision}-{strategy}", root / f"resumed-{precision}-{strategy}")


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bf16", "fp32", "pure_bf16"])
def test_a_single_process_resumes_where_all_is_due(precision: str, tmp_path: Path, data: Path, alone: None) -> None:
    with_and_without_a_stop(tmp_path, data, [(precision, "single")])
    assert compare(tmp_path, precision, "single") == []


def test_ranks_resume_where_all_is_due(tmp_path: Path, data: Path) -> None:
    on_ranks(2, with_and_without_a_stop, tmp_path, tmp_path, data, [("bf16", "ddp")])
    assert compare(tmp_path, "bf16", "ddp") == []


def test_every_term_is_tried() -> None:
    assert {*TERMS, *MORE_TERMS, *LEFT_OUT} == {*TermsConfig.model_fields}


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_every_strategy_resumes_where_all_is_due(precision: str, tmp_path: Path, data: Path) -> None:
    cells = [(precision, strategy) for strategy in STRATEGIES if strategy != "single"]
    on_ranks(2, with_and_without_a_stop, tmp_path, tmp_path, data, cells, {**TERMS, **MORE_TERMS})
    assert {cell: compare(tmp_path, *cell) for cell in cells} == {cell: [] for cell in cells}
