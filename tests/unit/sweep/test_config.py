"""Mistakes in a sweep: one line each, before anything is started."""

from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from bigtrain.core.config import ConfigError
from bigtrain.sweep.sweep import Sweep, open_sweep, reopen_sweep
from tests.conftest import ROOT


def write(folder: Path, data: Path, **changes: Any) -> Path:
    """Leave a sweep's YAML file."""
    sweep: dict[str, Any] = {
        "base": str(ROOT / "tests" / "tiny.yaml"),
        "overrides": {"data": {"path": str(data)}, "eval.interval_kimg": 0.8},
        "sweep_dir": str(folder / "sweep"),
        "presets": ["ttur_r1"],
        "budget": {"trials": 4},
        **changes,
    }
    path = folder / "sweep.yaml"
    YAML(typ="safe", pure=True).dump(sweep, path)
    return path


def test_a_sweep_that_fits_is_opened_and_reopened(tmp_path: Path, fashion: Path) -> None:
    path = write(tmp_path, fashion)
    sweep = open_sweep(path, ["budget.trials=3"])
    assert sweep.space.varying == ["optim.G.lr.value", "optim.D.lr.value", "objective.terms.r1.gamma"]
    sweep.write()
    (sweep.folder / "events.jsonl").touch()
    with pytest.raises(ConfigError, match="contains a sweep; resume it with: bigtrain tune --resume"):
        open_sweep(path)
    again = reopen_sweep(sweep.folder, None, ["budget.trials=5"])
    assert again.config.budget.trials == 5
    assert again.base == sweep.base
    with pytest.raises(ConfigError, match=r"contains another sweep \(seed: 0 -> 1\)"):
        reopen_sweep(sweep.folder, path, ["seed=1"])


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "sweeps").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_example_is_a_sweep(path: Path, tmp_path: Path, fashion: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert open_sweep(path, [f"sweep_dir={tmp_path / 'sweep'}", f"overrides.data.path={fashion}"]).space.varying


GAMMA = {"kind": "log_uniform", "low": 0.01, "high": 1.0}
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "unknown key": ({"space": {"optim.G.lrr": GAMMA}}, r"unknown key 'optim.G.lrr' \(did you mean 'optim.G.lr'\?\)"),
    "key below a value": ({"space": {"optim.G.beta1.low": GAMMA}}, "'optim.G.beta1' is a value, it has no keys"),
    "value out of range": ({"space": {"ema.rampup": {"kind": "choice", "values": [-1.0]}}}, "'ema.rampup'"),
    "metric": ({"metric": {"name": "kid"}}, "metric.name 'kid': the evaluation does not compute it"),
    "never evaluates": ({"overrides": {"eval.interval_kimg": 0}}, "eval.interval_kimg is 0"),
    "no full evaluation": ({"metric": {"evaluation": "full"}}, "the base config has no eval.full"),
    "cores": ({"trial": {"cpus": 4096}}, "trial.cpus 4096: this machine has"),
    "GPUs": ({"trial": {"gpus": 64}}, "trial.gpus 64: this machine has"),
    "ranks": ({"trial": {"nproc": 3}}, "do not divide over 3 ranks"),
    "preset": ({"presets": ["ttur_r2"]}, "presets"),
    "champion": ({"champion": True}, "no registered model without tracking.models"),
    "empty": ({"presets": []}, "the space is empty"),
    "grace": ({"scheduler": {"kind": "asha", "grace_kimg": 99}}, "must be below the base's total_kimg"),
    "networks in mid-run": (
        {
            "scheduler": {"kind": "pbt", "interval_kimg": 0.8},
            "space": {"generator.width": {"kind": "choice", "values": [4, 8]}},
        },
        "cannot change 'generator.width' during training",
    ),
    "finalists of a population": (
        {"scheduler": {"kind": "pbt", "interval_kimg": 0.8}, "finalists": {"seeds": [1]}},
        "finalists: not possible with scheduler pbt",
    ),
    "a population of jobs": (
        {"scheduler": {"kind": "pbt", "interval_kimg": 0.8}, "backend": {"kind": "slurm"}},
        "scheduler pbt: not possible with backend slurm",
    ),
    "choices for pb2": (
        {
            "scheduler": {"kind": "ray", "name": "pb2", "args": {"perturbation_interval": 0.8}},
            "space": {"optim.G.beta1": {"kind": "choice", "values": [0.0, 0.5]}},
            "presets": [],
        },
        "pb2 varies only numbers, but 'optim.G.beta1' is a choice",
    ),
    "too short for hyperband": (
        {
            "scheduler": {"kind": "ray", "name": "hyperband"},
            "overrides": {"total_kimg": 0.16, "eval.interval_kimg": 0.08},
        },
        "scheduler hyperband: not possible with total_kimg 0.16",
    ),
    "boundary without a score": ({"scheduler": {"kind": "pbt", "interval_kimg": 0.5}}, "must be a multiple of"),
    "too small a budget": ({"searcher": {"kind": "grid"}}, "budget.trials 4: the grid has"),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_a_mistake_is_one_line(tmp_path: Path, fashion: Path, mistake: str) -> None:
    changes, told = WRONG[mistake]
    own = {"data": {"path": str(fashion)}, "eval.interval_kimg": 0.8, **changes.get("overrides", {})}
    path = write(tmp_path, fashion, **{**changes, "overrides": own})
    with pytest.raises(ConfigError, match=told) as error:
        open_sweep(path)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)
    assert not (tmp_path / "sweep").exists()


def opened(folder: Path, data: Path, **changes: Any) -> Sweep:
    """Return a sweep whose folder is made."""
    sweep = open_sweep(write(folder, data, **changes))
    sweep.write()
    return sweep
