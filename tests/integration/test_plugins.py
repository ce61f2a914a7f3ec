"""What a package from outside brings is named, trained and resumed like our own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing as mp

from bigtrain.checkpoint import load_state
from bigtrain.generate.snapshot import read_weights
from tests.conftest import ROOT, tiny_source
from tests.distributed.ranks import free_port
from tests.integration.test_training import assert_same
from tests.plugged import describe, install

STRATEGIES: dict[str, dict[str, Any]] = {
    "single": {"kind": "single"},
    "ddp": {"kind": "ddp"},
    "fsdp": {"kind": "fsdp"},
    "zero2": {"kind": "deepspeed", "stage": 2},
}
SYNTHESIS = {
    "task": "synthesis",
    "generator": {"kind": "stripes"},
    "discriminator": {"kind": "mlp", "hidden": [16], "label_dim": 2},
    "objective": {"terms": {"brightness": {"weight": 10.0}}},
    "optim": {"G": {"lr": 1e-2, "eps": 1e-4}, "D": {"lr": 1e-2, "eps": 1e-4}},
}
MOMENTS = {"task": "moments", "generator": {"kind": "stripes"}, "optim": {"G": {"lr": 1e-2, "eps": 1e-4}}}
TASKS = {"synthesis": SYNTHESIS, "moments": MOMENTS}
CELLS = {
    1: [("moments", "single"), ("synthesis", "single")],
    2: [("moments", "ddp"), ("moments", "fsdp"), ("synthesis", "ddp"), ("moments", "zero2")],
}
"""What is trained on how many ranks: the task, with the network; the network with the term; by strategy."""
ZERO = CELLS[2][-1]


def run(*words: str, site: Path) -> "subprocess.CompletedProcess[str]":
    """Run a program in an environment where a package is installed."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{site}", "COLUMNS": "200"}
    return subprocess.run([sys.executable, *words], env=environment, cwd=ROOT, capture_output=True, text=True)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the example package is installed."""
    return install(tmp_path_factory.mktemp("site"))


_ASK = """
import json, sys
from bigtrain.config import load_training, training_schema
from bigtrain.core.config import ConfigError
told = []
for overrides in json.loads(sys.argv[1]):
    try:
        load_training("tests/tiny.yaml", overrides)
    except ConfigError as error:
        told.append(str(error))
print(json.dumps({"schema": training_schema(), "told": told}))
"""

MISTAKES = {
    "generator={kind: stripe}": "unknown generator.kind 'stripe' (did you mean 'stripes'?)",
    "generator={kind: stripes, wavs: 3}": "unknown key 'generator.wavs' (did you mean 'generator.waves'?)",
    "objective.terms={brightnes: {}}": "unknown key 'objective.terms.brightnes' (did you mean 'objective.terms.br",
    "objective.terms={brightness: {ofset: 1}}": "(did you mean 'objective.terms.brightness.offset'?)",
    "task=moment": "unknown task 'moment' (did you mean 'moments'?)",
    "eval.metrics=[mean_ga]": "'eval.metrics.0': unknown metric 'mean_ga' (did you mean 'mean_gap'?)",
    "eval.extractor=pixel": "'eval.extractor': unknown extractor 'pixel' (did you mean 'pixels'?)",
    "data.fields={image: {kind: height}}": "'data.fields.image.kind': unknown kind of field 'height' (did you mean",
}


def test_the_schema_and_error_messages_name_what_it_brings(site: Path) -> None:
    done = run("-c", _ASK, json.dumps([[override] for override in MISTAKES]), site=site)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    for told, words in zip(answer["told"], MISTAKES.values(), strict=True):
        assert words in told
    known = answer["schema"]["$defs"]
    assert {"StripesConfig", "Brightness", "MomentsTraining"} <= known.keys()
    assert '"stripes": "#/$defs/StripesConfig"' in json.dumps(
        known["BaseGeneratorConfig"]
    )  # what `generator` refers to
    assert "mean_gap" in json.dumps(known["EvalConfig"])
    assert "pixels" in json.dumps(known["EvalConfig"])
    assert "heights" in json.dumps(known["FieldConfig"])


def test_the_help_names_what_it_brings(site: Path) -> None:
    told = " ".join(run("-m", "bigtrain", "train", "--help", site=site).stdout.split())
    for word in ("stripes", "brightness", "moments", "mean_gap", "pixels", "heights"):
        assert f"{word} ('bigtrain-stripes' 0.1)" in told


def test_a_package_that_cannot_be_loaded_is_one_line_that_names_it(tmp_path: Path) -> None:
    site = describe(tmp_path, "broken-waves", {"bigtrain.networks": {"waves": "nowhere.at_all:X"}}, version="3")
    done = run("-m", "bigtrain", "config", "show", "tests/tiny.yaml", site=site)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "package 'broken-waves' 3, entry point 'waves' of bigtrain.networks: cannot be loaded" in done.stderr
    assert "No module named 'nowhere'" in done.stderr


def _config(data: Path, folder: Path, task: str, strategy: dict[str, Any], **changes: Any) -> Any:
    """Return a run's config, of 16 steps."""
    from bigtrain.config import parse_training

    kimg = {"interval_kimg": 0.064}
    never = {"interval_kimg": 0}
    config = {
        "run_dir": str(folder),
        "total_kimg": 0.128,
        "global_batch": 8,
        "micro_batch": 4,
        "data": {"path": str(data), "resolution": 8, "channels": 1, "classes": 3 if task == "synthesis" else 0},
        "strategy": strategy,
        "ema": {"half_life_kimg": 0.02},
        "log": kimg,
        "preview": never,
        "eval": never,
        "checkpoint": kimg,
        "snapshot": never,
        "tracking": {"mlflow": False, "system_seconds": 0},
        "health": {"images": 16, "neighbours": 40},
        **TASKS[task],
        **changes,
    }
    return parse_training(config, source=task)


STRAIGHT, *STOPPED = ("straight", None), ("stopped", 0.05), ("stopped", None)
"""How every cell is trained: the name of the run folder, and where it stops."""

Training = tuple[tuple[str, str], tuple[str, float | None]]
"""A cell, and a way to train it."""


def _train(rank: int, world_size: int, ports: list[int], trainings: list[Training], root: Path) -> None:
    """Train one cell after the other, as one of the ranks."""
    from bigtrain.train import train

    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(world_size), MASTER_ADDR="127.0.0.1")
    for ((task, strategy), (way, stop)), port in zip(trainings, ports, strict=True):
        os.environ["MASTER_PORT"] = str(port)
        config = _config(root / "tiny", root / f"{task}-{strategy}-{way}", task, STRATEGIES[strategy])
        assert train(config, stop_at_kimg=stop).complete == (stop is None)


def _on_ranks(site: Path, root: Path, world_size: int, trainings: list[Training]) -> None:
    sys.path.insert(0, str(site))  # spawned processes inherit it
    try:
        arguments = (world_size, [free_port() for _ in trainings], trainings, root)
        mp.start_processes(_train, arguments, world_size, start_method="spawn")
    finally:
        sys.path.remove(str(site))


@pytest.fixture(scope="module")
def trained(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of runs of what the package brings: every cell, straight and, but for ZeRO, resumed."""
    from data_pipelines.write import ShardOptions, write_shards

    root = tmp_path_factory.mktemp("runs")
    write_shards(tiny_source(), root / "tiny", ShardOptions(shard_samples=8))
    for world_size, cells in CELLS.items():
        ways = {cell: [STRAIGHT] if cell == ZERO else [STRAIGHT, *STOPPED] for cell in cells}
        _on_ranks(site, root, world_size, [(cell, way) for cell in cells for way in ways[cell]])
    return root


def _final_state(folder: Path) -> dict[str, Any]:
    state: dict[str, Any] = load_state(folder / "checkpoints" / "kimg000000.128")
    return {name: part for name, part in state.items() if name not in ("tracker", "health")}


@pytest.mark.parametrize(("task", "strategy"), CELLS[2])
def test_it_trains_as_on_one_rank(trained: Path, task: str, strategy: str) -> None:
    ours, alone = (
        read_weights(trained / f"{task}-{name}-straight" / "snapshots" / "kimg000000.128", "G")
        for name in (strategy, "single")
    )
    for name, value in alone.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-4, atol=1e-5)


def _assert_resumed(root: Path, cell: tuple[str, str]) -> None:
    straight, stopped = (root / f"{'-'.join(cell)}-{way}" for way, _ in (STRAIGHT, STOPPED[-1]))
    assert_same(_final_state(straight), _final_state(stopped))


@pytest.mark.parametrize("cell", [cell for cells in CELLS.values() for cell in cells if cell != ZERO], ids="-".join)
def test_it_resumes_bit_for_bit(trained: Path, cell: tuple[str, str]) -> None:
    _assert_resumed(trained, cell)


@pytest.mark.slow
def test_it_resumes_bit_for_bit_under_zero(site: Path, trained: Path) -> None:
    for way in STOPPED:  # in processes of their own: DeepSpeed keeps the first process group that it sees
        _on_ranks(site, trained, 2, [(ZERO, way)])
    _assert_resumed(trained, ZERO)
