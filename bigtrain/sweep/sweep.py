"""A sweep: its config, the base config and the search space, checked before anything is started."""

import importlib.util
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from bigtrain.build import check as check_run
from bigtrain.config import TrainingConfig, parse_training
from bigtrain.core.config import (
    ConfigError,
    apply_overrides,
    dump_yaml,
    flatten,
    load_config,
    parse_config,
    read_yaml,
)
from bigtrain.sweep.config import SweepConfig
from bigtrain.sweep.decisions import RayDecisions
from bigtrain.sweep.event_log import Trial, event_file
from bigtrain.sweep.metric import MetricConfig
from bigtrain.sweep.presets import preset
from bigtrain.sweep.ray_names import one_line
from bigtrain.sweep.searchers import GridSearch
from bigtrain.sweep.space import Constraint, Parameter, Point, Space
from data_pipelines.files import atomic_write

SWEEP_FILE, BASE_FILE = "sweep.yaml", "base.yaml"

_CHECKED_POINTS = 24
"""Number of random points with which the base config is checked before the sweep starts."""

_CHANGEABLE_IN_TRAINING = re.compile(
    r"optim\.\w+\.(lr|beta|eps|alpha|momentum|clip_)|objective\.terms\.|augment\.probability\.|ema\.half_life"
)
"""Prefixes of keys that PBT may change during training: only the next step depends on their values."""

_CHANGEABLE_ON_RESUME = ("budget.", "trial.", "publish_seconds", "champion")
"""Prefixes of keys that may change when a sweep is resumed."""


@dataclass(frozen=True)
class Sweep:
    """A sweep.

    Attributes:
        config: config of the sweep.
        source: file that errors name.
        base: base training config, with the sweep's overrides.
        space: search space around the base config.
    """

    config: SweepConfig
    source: str
    base: TrainingConfig
    space: Space

    @property
    def folder(self) -> Path:
        """Folder of the sweep."""
        return self.config.folder

    @property
    def metric(self) -> MetricConfig:
        """Metric by which trials are compared."""
        return self.config.metric

    @cached_property
    def trials(self) -> int:
        """Number of trials of the search, including the base config."""
        most = self.config.budget.trials
        return min(most, _grid_trials(self)) if isinstance(self.config.searcher, GridSearch) else most

    def training(self, trial: Trial) -> TrainingConfig:
        """Return a trial's config.

        Raises:
            ConfigError: the base config does not accept the trial's values.
        """
        tracking = {"tracking.parent": self.folder.resolve().name, "tracking.name": trial.name}
        own: Point = {"run_dir": str(self.folder / trial.name), "seed": trial.seed, **tracking}
        return self.with_point({**own, **trial.point})

    def with_point(self, point: Point) -> TrainingConfig:
        """Return the base config with some values changed.

        Raises:
            ConfigError: the base config does not accept the values.
        """
        try:
            tree = set_values(self.base.model_dump(mode="json"), point)
        except ConfigError as error:
            raise ConfigError(f"{self.source}: {error}") from None
        return parse_training(tree, source=f"{self.source}: space")

    def write(self) -> None:
        """Write the configs into the sweep's folder, which is created if it does not exist."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for name, config in ((SWEEP_FILE, self.config), (BASE_FILE, self.base)):
            with atomic_write(self.folder / name) as file:
                file.write(dump_yaml(config).encode())


def open_sweep(path: str | Path, overrides: Sequence[str] = ()) -> Sweep:
    """Read and check a sweep's YAML file; its folder must not hold a sweep.

    Raises:
        ConfigError: the config is invalid, or the folder holds a sweep.
    """
    sweep = _assemble(load_config(SweepConfig, path, overrides), str(path))
    if event_file(sweep.folder).exists():
        raise ConfigError(f"{sweep.folder}: contains a sweep; resume it with: bigtrain tune --resume {sweep.folder}")
    if sweep.folder.exists() and (not sweep.folder.is_dir() or any(sweep.folder.iterdir())):
        raise ConfigError(f"{sweep.folder}: exists and is not a sweep's folder; choose another sweep_dir")
    _check(sweep)
    return sweep


def reopen_sweep(folder: Path, path: str | Path | None, overrides: Sequence[str] = ()) -> Sweep:
    """Read the sweep in a folder, to resume it.

    Args:
        folder: folder of the sweep.
        path: YAML file of the sweep, if it is given again; it must not differ from the one in the folder.
        overrides: overrides of the budget and of the trials' resources, which may change.

    Raises:
        ConfigError: there is no sweep in the folder, or another one.
    """
    saved = folder / SWEEP_FILE
    if not saved.is_file() or not (folder / BASE_FILE).is_file():
        raise ConfigError(f"{folder}: not a sweep's folder, {SWEEP_FILE} or {BASE_FILE} is missing")
    before = load_config(SweepConfig, saved)
    if path is not None:
        after = load_config(SweepConfig, path, overrides)
    else:
        after = parse_config(SweepConfig, apply_overrides(read_yaml(saved), overrides), source=str(saved))
    old, new = flatten(before.model_dump(mode="json")), flatten(after.model_dump(mode="json"))
    differing = [
        f"{key}: {old.get(key)} -> {new.get(key)}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key) and not key.startswith(_CHANGEABLE_ON_RESUME) and key != "sweep_dir"
    ]
    if differing:
        raise ConfigError(f"{folder}: contains another sweep ({'; '.join(differing)}); choose another sweep_dir")
    after = after.model_copy(update={"sweep_dir": str(folder), "base": str(folder / BASE_FILE), "overrides": {}})
    sweep = _assemble(after, str(saved))
    _check(sweep)
    kept = after.model_copy(update={"sweep_dir": before.sweep_dir, "base": before.base, "overrides": before.overrides})
    with atomic_write(saved) as file:
        file.write(dump_yaml(kept).encode())
    return sweep


def read_sweep(folder: Path) -> Sweep:
    """Read the sweep in a folder, to report on it.

    Raises:
        ConfigError: there is no sweep in the folder.
    """
    saved = folder / SWEEP_FILE
    config = load_config(SweepConfig, saved)
    own = {"sweep_dir": str(folder), "base": str(folder / BASE_FILE), "overrides": {}}
    return _assemble(config.model_copy(update=own), str(saved))


def set_values(tree: dict[str, Any], point: Point) -> dict[str, Any]:
    """Return a copy of a config's tree with values set by dotted key; a new `kind` removes the keys of the old kind.

    Raises:
        ConfigError: a key leads into a value.
    """
    result = apply_overrides(tree, ())
    for key in sorted(point, key=lambda one: (one.count("."), not one.endswith(".kind"))):
        *above, name = key.split(".")
        node = result
        for depth, part in enumerate(above, 1):
            child = node.get(part)
            if child is None:
                child = node[part] = {}
            if not isinstance(child, dict):
                raise ConfigError(f"space '{key}': '{'.'.join(above[:depth])}' is a value, it has no keys")
            node = child
        if name == "kind" and node.get(name) != point[key]:
            node.clear()
        node[name] = point[key]
    return result


def _assemble(config: SweepConfig, source: str) -> Sweep:
    overrides = flatten(config.overrides)
    tree = set_values(read_yaml(config.base), overrides)
    base: TrainingConfig = parse_training(tree, source=f"{source}: base {config.base}")
    parameters: dict[str, Parameter] = {}
    for name in config.presets:
        parameters |= preset(name, base)
    parameters |= config.space
    if not parameters:
        raise ConfigError(f"{source}: the space is empty: name presets, such as [ttur_r1], or keys under space")
    try:
        constraints = [Constraint(text) for text in config.constraints]
        space = Space(parameters, constraints, _values_of(base))
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None
    return Sweep(config, source, base, space)


def _values_of(base: TrainingConfig) -> dict[str, Any]:
    return {key: value for key, value in flatten(base.model_dump(mode="json")).items() if not isinstance(value, list)}


def _check(sweep: Sweep) -> None:
    """Check everything that would make trials fail.

    Raises:
        ConfigError: a trial would fail.
    """
    try:
        sweep.metric.check(sweep.base)
        _check_resources(sweep)
        _check_scheduler(sweep)
        if sweep.config.champion and not sweep.base.tracking.models:
            raise ConfigError("champion: the winner has no registered model without tracking.models of the base config")
        points = [sweep.space.draw(f"probe/{number}") for number in range(_CHECKED_POINTS)]
    except ConfigError as error:
        raise ConfigError(f"{sweep.source}: {error}") from None
    for number, point in enumerate(points):
        training = sweep.training(Trial(number, point, sweep.config.seed))
        try:
            training.accumulation(_world_size(sweep)) if training.micro_batch != "auto" else None
        except ConfigError as error:
            raise ConfigError(f"{sweep.source}: {error}") from None
    first = sweep.training(Trial(0, {}, sweep.config.seed)).model_copy(update={"run_dir": f"{sweep.folder}/check"})
    backend = sweep.config.backend
    cuda = bool(backend.settings.get("gpus_per_node")) if backend.kind == "slurm" else None
    try:
        check_run(first, world_size=_world_size(sweep), allow_change=True, cuda=cuda)
    except ConfigError as error:
        raise ConfigError(f"{sweep.source}: base: {error}") from None


def _grid_trials(sweep: Sweep) -> int:
    return sum(1 for _ in sweep.space.grid()) + 1


def _check_scheduler(sweep: Sweep) -> None:
    scheduler, base, trials = sweep.config.scheduler, sweep.base, sweep.config.budget.trials
    grace = getattr(scheduler, "grace_kimg", None)
    if grace is not None and grace >= base.total_kimg:
        raise ConfigError(f"scheduler.grace_kimg {grace:g}: must be below the base's total_kimg, {base.total_kimg:g}")
    if isinstance(sweep.config.searcher, GridSearch) and (count := _grid_trials(sweep)) > trials:
        raise ConfigError(f"budget.trials {trials}: the grid has {count} trials, including the base config")
    rays = scheduler.rays
    if rays is None:
        return
    if (rays.pauses or rays.copies) and sweep.config.backend.kind == "slurm":
        raise ConfigError(
            f"scheduler {rays.name}: not possible with backend slurm, whose jobs run to their end; use ray"
        )
    try:
        decisions = RayDecisions(rays, base.total_kimg, sweep.space, sweep.trials, sweep.config.seed)
    except Exception as error:  # whatever Ray raises about a total_kimg or a space that does not suit it
        why = f"not possible with total_kimg {base.total_kimg:g}: {one_line(error)}"
        raise ConfigError(f"scheduler {rays.name}: {why}") from None
    if rays.copies:
        _check_copies(sweep, decisions.name, rays.args["perturbation_interval"])


def _check_copies(sweep: Sweep, name: str, interval: float) -> None:
    """Check what must hold where trials continue from checkpoints of others, every `interval` kimg."""
    base = sweep.base
    if not sweep.config.scheduler.boundaries(base.total_kimg):
        raise ConfigError(
            f"scheduler {name}: its interval, {interval:g} kimg, must be below the base's total_kimg, "
            f"{base.total_kimg:g}"
        )
    share = interval / base.eval.interval_kimg
    if abs(share - round(share)) > 1e-6 or round(share) < 1:
        raise ConfigError(
            f"scheduler {name}: its interval, {interval:g} kimg, must be a multiple of eval.interval_kimg, "
            f"{base.eval.interval_kimg:g}, so that there is a score at each boundary"
        )
    if sweep.trials < 2:
        raise ConfigError(f"budget.trials {sweep.trials}: scheduler {name} needs two trials or more")
    if sweep.config.finalists is not None:
        raise ConfigError(
            f"finalists: not possible with scheduler {name}, whose winner changes its settings during training"
        )
    fixed = [
        key
        for key in sweep.space.varying
        if not _CHANGEABLE_IN_TRAINING.match(key) or key.endswith((".kind", ".interval"))
    ]
    if fixed:
        raise ConfigError(
            f"scheduler {name}: cannot change '{fixed[0]}' during training; it may change learning rates, betas, "
            "weights of objective.terms, augment.probability and ema.half_life_kimg, but never networks or data"
        )


def _check_resources(sweep: Sweep) -> None:
    """Check a trial's resources against this machine, if Ray runs on it alone."""
    trial = sweep.config.trial
    for package in ("ray", "optuna"):
        if importlib.util.find_spec(package) is None:
            raise ConfigError(f"sweeps need {package}: pip install 'bigtrain[tune]'")
    if sweep.config.backend.kind != "ray" or "RAY_ADDRESS" in os.environ:
        return
    import torch

    cores, gpus = len(os.sched_getaffinity(0)), torch.cuda.device_count()
    if trial.cpus != "node" and trial.cpus > cores:
        raise ConfigError(f"trial.cpus {trial.cpus:g}: this machine has {cores}")
    if trial.gpus > gpus:
        raise ConfigError(f"trial.gpus {trial.gpus:g}: this machine has {gpus}")


def _world_size(sweep: Sweep) -> int:
    return sweep.config.trial.nproc * (sweep.config.backend.nodes if sweep.config.backend.kind == "slurm" else 1)
