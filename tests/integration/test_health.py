"""Runs that are made to fail, each diagnosed by its right name; a healthy one, about which nothing is said."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bigtrain.build import build
from bigtrain.checkpoint import load_state
from bigtrain.config import load_training
from bigtrain.core.batch import Batch
from bigtrain.distributed.init import Ranks
from bigtrain.engine.player import Phase
from bigtrain.health.report import is_critical, read_report
from bigtrain.models.biggan import ResidualGenerator
from bigtrain.run.folder import open_run_folder
from bigtrain.strategies.base import TorchStrategy
from bigtrain.tracking.spool import read_metrics, read_records
from bigtrain.trainer import Result, Trainer
from data_pipelines.prepare.arrays import from_arrays
from data_pipelines.read import ShardDataset
from data_pipelines.write import ShardOptions, write_shards
from tests.conftest import ROOT

ALONE = Ranks(0, 1, 0, torch.device("cpu"))
NO_FEATURES = "health.features_kimg=0"
FEATURES = "health={features_kimg: 0.4, images: 32, neighbours: 60, held_out: 0.2}"


@dataclass
class Run:
    """Starts runs of the tiny config in this process."""

    data: Path
    root: Path

    def trainer(self, *overrides: str) -> Trainer:
        small = [
            f"data.path={self.data}",
            f"run_dir={self.root / 'run'}",
            "strategy.kind=single",
            "micro_batch=16",
            "log.interval_kimg=0.08",
            "preview.interval_kimg=0",
            "eval.interval_kimg=0",
            "snapshot.interval_kimg=0",
            "tracking.mlflow=false",
        ]
        config = load_training(ROOT / "tests" / "tiny.yaml", [*small, *overrides])
        open_run_folder(config)
        return build(config, ALONE, config.folder)

    def __call__(self, *overrides: str) -> tuple[Result, dict[str, dict[str, Any]]]:
        """Train; return the result and what is said of each symptom."""
        result = self.trainer(*overrides).run()
        return result, self.symptoms()

    def symptoms(self) -> dict[str, dict[str, Any]]:
        return {line["symptom"]: line for line in read_report(self.root / "run")["symptoms"]}


@pytest.fixture
def run(fashion: Path, tmp_path: Path, alone: None) -> Run:
    torch.set_num_threads(1)
    return Run(fashion, tmp_path)


def few(run: Run, images: int, copies: int) -> str:
    """Make a dataset of some Fashion-MNIST images, each so many times; return the override that names it."""
    dataset = ShardDataset(run.data)
    fields = dataset.read(list(islice(dataset.locations(), images)))
    pixels, labels = fields["image"], fields["class"]
    names = list(dataset.manifest.classes)
    many = np.concatenate([pixels] * copies)
    source = from_arrays("few", many, list(labels) * copies, classes=names, licence="MIT", origin="Fashion-MNIST")
    write_shards(source, run.root / "few", ShardOptions(shard_samples=50))
    return f"data.path={run.root / 'few'}"


def alarms(symptoms: dict[str, dict[str, Any]]) -> list[str]:
    # A test machine may really be too busy to read images in time.
    return [
        name for name, line in symptoms.items() if line["first_seen_kimg"] is not None and name != "data_starvation"
    ]


def test_of_a_healthy_run_nothing_is_said(run: Run) -> None:
    result, symptoms = run("total_kimg=1.2", FEATURES.replace("0.2}", "0.01}"))
    assert result.complete
    assert alarms(symptoms) == []
    assert {line["state"] for line in symptoms.values()} == {"ok"}  # and nothing was left unexamined
    metrics = read_metrics(run.root / "run")
    assert metrics["health/mode_collapse"][-1] == (1.2, 0.0)
    assert (run.root / "run" / "images" / "health" / "neighbours-kimg00001.200.png").is_file()
    assert not is_critical(read_report(run.root / "run"))


SCALED_UP = ("optim={G: {lr: 0.05}, D: {lr: 0.05}}", NO_FEATURES)
STRONG_D = ("optim={G: {lr: 1.0e-4}, D: {lr: 5.0e-3}}", "objective={adversarial: minimax}", NO_FEATURES)
STRONG_G = ("optim={G: {lr: 1.0e-2}, D: {lr: 1.0e-5}}", NO_FEATURES)


@pytest.mark.parametrize(
    ("ill", "kimg", "symptom"),
    [
        pytest.param(SCALED_UP, 0.8, "learning_stopped", id="learning rates x 50", marks=pytest.mark.slow),
        pytest.param(STRONG_D, 1.0, "discriminator_wins", id="saturating loss, strong D"),
        pytest.param(STRONG_G, 1.2, "generator_wins", id="strong G", marks=pytest.mark.slow),
    ],
)
def test_an_ill_run_is_diagnosed(run: Run, ill: tuple[str, ...], kimg: float, symptom: str) -> None:
    _, symptoms = run(f"total_kimg={kimg}", *ill)
    assert symptoms[symptom]["state"] == "critical", symptoms[symptom]["evidence"]


def test_a_discriminator_without_r1_overfits_few_images(run: Run) -> None:
    data = few(run, images=20, copies=1)
    wide = "discriminator={kind: biggan, width: 8, multiples: [1, 2, 4, 4], halvings: 3}"
    rates, unregularised = "optim={G: {lr: 1.0e-3, beta1: 0.5}, D: {lr: 1.0e-3, beta1: 0.5}}", "objective={}"
    half = "health={features_kimg: 0, held_out: 0.5}"
    _, symptoms = run("total_kimg=0.8", data, wide, rates, unregularised, half)
    assert symptoms["discriminator_overfits"]["state"] == "critical", symptoms["discriminator_overfits"]["evidence"]


def test_a_generator_that_ignores_z_is_a_mode_collapse(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = ResidualGenerator.forward
    monkeypatch.setattr(ResidualGenerator, "forward", lambda self, z, *rest, **more: honest(self, 0 * z, *rest, **more))
    _, symptoms = run("total_kimg=0.48", FEATURES)
    assert symptoms["mode_collapse"]["first_seen_kimg"] == 0.4
    assert "0% inside a class" in symptoms["mode_collapse"]["evidence"]
    assert symptoms["mode_collapse"]["state"] == "critical"


def test_a_generator_of_copies_memorises(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = run.trainer("total_kimg=0.48", FEATURES, few(run, images=100, copies=1))
    images = torch.cat([batch_images(trainer) for _ in range(5)])

    def copy(self: ResidualGenerator, z: Tensor, label: Tensor, **more: Any) -> Tensor:
        """Return a training image for each z, and a gradient for each weight."""
        choice = (z.detach()[:, 0].frac().abs() * len(images)).long()
        return images[choice] + 0.0 * honest(self, z, label, **more)

    honest: Callable[..., Tensor] = ResidualGenerator.forward
    monkeypatch.setattr(ResidualGenerator, "forward", copy)
    trainer.run()
    symptoms = run.symptoms()
    assert symptoms["memorisation"]["state"] == "critical"
    assert symptoms["mode_collapse"]["state"] == symptoms["duplicated_data"]["state"] == "ok"


def batch_images(trainer: Trainer) -> Tensor:
    return next(trainer.feed)["image"]


def test_duplicated_data_are_found_out(run: Run) -> None:
    data = few(run, images=30, copies=10)
    _, symptoms = run("total_kimg=0.48", FEATURES, data)
    assert symptoms["duplicated_data"]["state"] == "critical"
    assert symptoms["duplicated_data"]["first_seen_kimg"] == 0.4


def poison(monkeypatch: pytest.MonkeyPatch, *, begin: int, steps: int) -> None:
    """Make D's loss NaN from a place of the run on, for so many steps in all, wherever they are taken."""
    honest, left = TorchStrategy.loss, [steps]

    def loss(strategy: TorchStrategy, phase: Phase, batch: Batch, *rest: Any, **more: Any) -> Any:
        value, stats = honest(strategy, phase, batch, *rest, **more)
        if phase.name == "d_main" and int(batch.draws.index[0]) >= begin and left[0]:
            left[0] -= 1
            value = value * torch.nan
        return value, stats

    monkeypatch.setattr(TorchStrategy, "loss", loss)


SKIPPING = ("total_kimg=1.28", NO_FEATURES, "checkpoint={interval_kimg: 0.32, keep: 9}", "log.interval_kimg=0.16")
ROLLBACK = "health={features_kimg: 0, on_collapse: rollback, max_skipped: 5, max_rollbacks: 2}"


def test_steps_without_finite_gradients_stop_a_run(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    poison(monkeypatch, begin=640, steps=99)
    result, _ = run(*SKIPPING)
    assert not result.complete
    assert "10 steps in a row without finite gradients" in (run.root / "run" / "stopped.json").read_text()
    assert read_report(run.root / "run")["kimg"] == 0.8


def test_a_run_rolls_back_and_ends_slower(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    poison(monkeypatch, begin=640, steps=5)
    result, _ = run(*SKIPPING, ROLLBACK)
    assert result.complete
    assert read_report(run.root / "run")["rollbacks"] == 1
    (record,) = [r for r, _ in read_records(run.root / "run" / "metrics.jsonl") if r["kind"] == "rollback"]
    assert (record["begun"], record["samples_seen"]) == (800, 640)  # noticed when metrics are logged
    metrics = read_metrics(run.root / "run")
    assert [kimg for kimg, _ in metrics["loss/d_main"]] == pytest.approx([0.16 * step for step in range(1, 9)])
    rates = dict(metrics["lr/D"])
    assert (rates[0.64], rates[0.8]) == pytest.approx((1e-3, 0.5 * 0.8875e-3))  # halved, besides the schedule
    assert metrics["health/rollbacks"] == [(0.64, 1.0)]


@pytest.mark.slow
def test_after_a_rollback_it_resumes_with_the_same_bits(
    run: Run, fashion: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = TorchStrategy.loss

    def final(one: Run) -> dict[str, Any]:
        state: dict[str, Any] = load_state(one.root / "run/checkpoints/kimg000001.280")
        return state

    poison(monkeypatch, begin=640, steps=5)
    run(*SKIPPING, ROLLBACK)
    monkeypatch.setattr(TorchStrategy, "loss", honest)
    poison(monkeypatch, begin=640, steps=5)
    other = Run(fashion, tmp_path_factory.mktemp("other"))
    stopped = other.trainer(*SKIPPING, ROLLBACK)
    agreed = stopped.early_stop.agreed

    def stops_after_the_rollback() -> bool:
        return agreed() or (stopped.rollback.recovery.rollbacks == 1 and stopped.progress.samples_seen == 800)

    monkeypatch.setattr(stopped.early_stop, "agreed", stops_after_the_rollback)
    assert not stopped.run().complete
    assert other(*SKIPPING, ROLLBACK)[0].complete
    for name in ("D", "G"):
        ours, theirs = final(run)[name]["player"], final(other)[name]["player"]
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert final(other)["recovery"] == {"rollbacks": 1}


@pytest.mark.slow  # on two ranks below
def test_what_collapses_again_and_again_is_stopped(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    poison(monkeypatch, begin=640, steps=99)
    result, _ = run(*SKIPPING, ROLLBACK)
    assert not result.complete
    assert read_report(run.root / "run")["rollbacks"] == 2


def test_two_ranks_roll_back_together(fashion: Path, tmp_path: Path) -> None:
    """Learning rates so high that the gradients vanish, also when halved: back once, then stopped, on both ranks."""
    command = [
        *(str(Path(sys.executable).parent / "bigtrain"), "train", str(ROOT / "tests" / "tiny.yaml"), "--nproc", "2"),
        *(f"data.path={fashion}", f"run_dir={tmp_path / 'run'}", "micro_batch=8", "log.interval_kimg=0.08"),
        *("eval.interval_kimg=0", "preview.interval_kimg=0", "snapshot.interval_kimg=0", "tracking.mlflow=false"),
        *("optim={G: {lr: 0.1}, D: {lr: 0.1}}", "health={features_kimg: 0, on_collapse: rollback, max_rollbacks: 1}"),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 3, done.stderr
    assert "stopped by learning_stopped" in done.stdout
    assert read_report(tmp_path / "run")["rollbacks"] == 1
    again = subprocess.run([*command[:1], "health", str(tmp_path / "run")], capture_output=True, text=True)
    assert again.returncode == 1
    assert "learning_stopped" in again.stdout
