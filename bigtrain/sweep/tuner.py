"""A training run as a trainable for people's own Ray Tune scripts, with any scheduler and search algorithm of Ray's."""

import json
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bigtrain.config import load_training, parse_training
from bigtrain.core.config import dump_yaml
from bigtrain.sweep.exploit import copy_checkpoint
from bigtrain.sweep.metric import MetricConfig
from bigtrain.sweep.sweep import set_values
from data_pipelines.files import atomic_write
from launch.sweep.ranks import newest_checkpoint_kimg
from launch.sweep.trial import RunTrial

_WAIT_SECONDS, _POLL_SECONDS = 60.0, 0.1
"""A score is reported before the checkpoint of the same place is written."""


@dataclass(frozen=True)
class _Common:
    """What the trials of a sweep have in common.

    Attributes:
        root: folder of the run folders.
        config: a training config; its `run_dir` and its tracking are not those of a trial.
        nproc: ranks of a trial.
        metric: name of the metric.
        samples: samples of an evaluation by it.
        aligned: whether a checkpoint is written at each evaluation.
    """

    root: Path
    config: dict[str, Any]
    nproc: int
    metric: str
    samples: int
    aligned: bool


class _TunedRun(RunTrial):
    """A run that trains with the values of its trial; a subclass knows what its trials have in common."""

    common: _Common

    def setup(self, config: dict[str, Any]) -> None:
        """See Trainable."""
        common, run = self.common, self.common.root / self.trial_id
        own = {**config, "run_dir": str(run), "tracking.parent": common.root.name, "tracking.name": self.trial_id}
        file, spec = run.with_suffix(".yaml"), run.with_suffix(".json")
        common.root.mkdir(parents=True, exist_ok=True)
        settings = parse_training(set_values(common.config, own), source=f"trial {self.trial_id}")
        with atomic_write(file) as out:
            out.write(dump_yaml(settings).encode())
        about = {
            "number": 0,
            "name": self.trial_id,
            "folder": str(run),
            "python": sys.executable,
            "cwd": str(Path.cwd()),
            "arguments": [str(file), "allow_config_change=true"],
            "nproc": common.nproc,
            "metric": common.metric,
            "samples": common.samples,
            "stop_at_kimg": None,
            "backend": {"kind": "ray"},
        }
        with atomic_write(spec) as out:
            out.write(json.dumps(about).encode())
        super().setup({"spec": str(spec), "cores": common.nproc})
        self._after, self._last = -1, {"score": float("nan"), "error": 0.0, "kimg": 0.0}

    def step(self) -> dict[str, Any]:
        """See Trainable; returns when there is a new score, or the run has ended."""
        while True:
            result = super().step()
            scores = [score for score in result["scores"] if score["samples_seen"] > self._after]
            if scores:
                newest = max(scores, key=lambda score: int(score["samples_seen"]))
                kimg = newest["samples_seen"] / 1000
                self._last = {"score": newest["value"], "error": newest["error"], "kimg": kimg}
            if scores or result["done"]:
                return {**self._last, "done": result["done"], "why": result["why"]}

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any] | None:
        """See Trainable: a copy of the run's newest checkpoint, which may be about to be made."""
        deadline = time.monotonic() + (_WAIT_SECONDS if self._ranks is not None and self.common.aligned else 0)
        while (kimg := newest_checkpoint_kimg(self._folder)) < self._last["kimg"] and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        if kimg:
            copy_checkpoint(self._folder, Path(checkpoint_dir), 0)
        (Path(checkpoint_dir) / "trial.json").write_text(json.dumps({"kimg": kimg, "last": self._last}))
        return None

    def load_checkpoint(self, checkpoint: Any) -> None:
        """See Trainable: the run goes on from there, whosever checkpoint it is."""
        about = json.loads((Path(checkpoint) / "trial.json").read_text())
        if about["kimg"]:
            copy_checkpoint(Path(checkpoint), self._folder, 0)
        else:
            shutil.rmtree(self._folder / "checkpoints", ignore_errors=True)
        self._after, self._last = round(1000 * about["kimg"]), about["last"]


def trainable(
    base: str | Path,
    folder: str | Path,
    *,
    overrides: Mapping[str, Any] | None = None,
    nproc: int = 1,
    metric: str = "fid",
) -> type[RunTrial]:
    """Return a trainable for `ray.tune.Tuner`: each trial is a run folder, and can be gone on with by `bigtrain train`.

    A trial's config holds values by dotted key of the training config, such as `optim.G.lr`. Each result has `score`,
    its standard `error` and `kimg`. Checkpoints are those of the run, with networks, averages and optimizers, so that
    schedulers that pause trials or copy them (HyperBand, PBT, PB2) work too; `checkpoint.interval_kimg` should then be
    that of the evaluations, or divide it.

    Args:
        base: YAML file of the base training config.
        folder: folder of the run folders; on several nodes, one that all of them share.
        overrides: values by dotted key that all trials have.
        nproc: ranks of a trial; give it as many cores by `ray.tune.with_resources`.
        metric: name of the metric, one of `eval.metrics`.

    Raises:
        ConfigError: the config is wrong, or does not compute the metric.
    """
    settings = set_values(load_training(base).model_dump(mode="json"), dict(overrides or {}))
    config = parse_training(settings, source=str(base))
    wanted = MetricConfig(name=metric)
    wanted.check(config)
    aligned = (config.eval.interval_kimg / config.checkpoint.interval_kimg).is_integer()
    common = _Common(Path(folder).resolve(), settings, nproc, metric, wanted.samples(config), aligned)
    return type("Run", (_TunedRun,), {"common": common})
