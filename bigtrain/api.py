"""What `import bigtrain as bt` offers: preparing data, training, sampling, translating and scoring, as the commands do.

A mistake of the caller's raises a `UserError` or a `DataError`, whose message is the one line that the command prints.
"""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from bigtrain.config import parse_training
from bigtrain.core import stop
from bigtrain.core.config import nearest, parse_config, read_yaml
from bigtrain.core.errors import UserError
from bigtrain.distributed.init import Ranks, join_ranks, leave_ranks
from bigtrain.evaluation.protocol import Score
from bigtrain.generate.apply import Applier, translation_of
from bigtrain.generate.snapshot import Snapshot, load_snapshot
from bigtrain.run.evaluate import EvaluateSettings, evaluate_as
from bigtrain.train import train as train_as_a_rank
from data_pipelines.manifest import Manifest
from data_pipelines.prepare import open_source
from data_pipelines.prepare.run import PrepareOptions
from data_pipelines.prepare.run import prepare as prepare_source
from data_pipelines.prepare.sound_form import Cut, SoundForm

Place = str | Path


@dataclass(frozen=True)
class Run:
    """How a training ended.

    Attributes:
        folder: the run folder.
        complete: False when it was stopped on the way; the same call goes on.
        scores: of the last evaluation, by name.
        snapshot: folder of the newest snapshot; None where there is none yet.
    """

    folder: Path
    complete: bool
    scores: Mapping[str, float]
    snapshot: Path | None


class Model:
    """The networks of a snapshot, ready to use; see `load`.

    Args:
        snapshot: what was loaded.
        folder: where from.
        device: where its networks are.
    """

    def __init__(self, snapshot: Snapshot, folder: Path, device: torch.device) -> None:
        self.snapshot, self.folder, self.device = snapshot.to(device), folder, device

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes in the order of their indices; empty for an unconditional network."""
        return self.snapshot.class_names

    def sample(
        self,
        seeds: int | Sequence[int],
        classes: str | int | Sequence[str | int] | None = None,
        *,
        truncation: float = 1.0,
        batch: int = 64,
    ) -> Tensor:
        """Generate one output a seed; it depends on its own seed and class only, on any device and in any batch.

        Args:
            seeds: how many (0 to seeds - 1), or which; 0 <= seed < 2**63.
            classes: one for all, or one for each seed, by name or index; None draws them from the seeds.
            truncation: 1 for the whole distribution, less for fidelity.
            batch: outputs that are computed at once.

        Returns:
            float32 around [-1, 1], on the CPU, shape [N, C, H, W].

        Raises:
            SnapshotError: there is no such class, or the networks generate nothing from seeds.
        """
        seeds = range(seeds) if isinstance(seeds, int) else seeds
        return self.snapshot.sample(seeds, self._labels(classes, len(seeds)), truncation=truncation, batch=batch)

    def apply(self, images: Tensor, *, output: str | None = None, noise: bool = False, batch: int = 16) -> Tensor:
        """Translate images, of any size that the layers allow.

        Args:
            images: in [-1, 1], shape [N, C, H, W].
            output: which of the networks' outputs; None for the first.
            noise: let the network draw its own noise, such as dropout.
            batch: images that are computed at once.

        Returns:
            float32 around [-1, 1], on the CPU, shape [N, C', H', W'].

        Raises:
            UserError: the networks translate nothing, have no such output, or images of another shape.
        """
        translation = translation_of(self.snapshot, self.folder, output)
        channels = translation.input.shape[0]
        if images.ndim != 4 or images.shape[1] != channels:
            raise UserError(f"apply: {self.folder} reads images [N, {channels}, H, W], not {list(images.shape)}")
        applier = Applier(self.snapshot, translation, self.device, noise)
        starts = range(0, len(images), batch)
        made = [applier.translate(images[i : i + batch], range(i, min(i + batch, len(images)))) for i in starts]
        return torch.cat([some.float().cpu() for some in made])

    def _labels(self, classes: str | int | Sequence[str | int] | None, count: int) -> list[int] | None:
        if classes is None:
            return None
        named = [classes] * count if isinstance(classes, str | int) else list(classes)
        if len(named) != count:
            raise UserError(f"sample: {len(named)} classes for {count} seeds; give one class, or one for each seed")
        return [self.snapshot.class_index(str(one)) for one in named]


def prepare(
    source: Place,
    folder: Place,
    *,
    kind: str | None = None,
    split: str = "all",
    direction: str = "AtoB",
    label: str | None = None,
    encoding: str | None = None,
    rate: int | None = None,
    seconds: float | None = None,
    cut: Cut = "first",
    workers: int | None = None,
    **options: Any,
) -> dict[Path, Manifest]:
    """Make a dataset of shards; the same call goes on after a kill, and does nothing where all is done.

    Args:
        source: a name, a path, or KIND:PATH, see docs/how-to/data.md.
        folder: to make.
        kind: of the source; None for what it looks like.
        split: part of a source that has parts: `all`, `train`, `val`, `test`.
        direction: of pairs: `AtoB`, or `BtoA` to make inputs of the targets.
        label: column, array or key of the labels; `none` to prepare without classes; None for the usual ones.
        encoding: of tables, and of names in archives, that are not UTF-8.
        rate: that sounds are resampled to, samples a second.
        seconds: that sounds are cut to.
        cut: what becomes of longer sounds: the `first` seconds, those in the `center`, or all whole `windows`.
        workers: processes; None for one a core.
        options: see `data_pipelines.prepare.run.PrepareOptions`, for example `resolution=(256, 256)`,
            `test_samples=1000`.

    Returns:
        The manifest of each folder that was made, or was there already.

    Raises:
        DataError: source and options do not fit each other, or the folder holds something else.
        UserError: there is no such option.
    """
    known = [field.name for field in fields(PrepareOptions)]
    unknown = [name for name in options if name not in known]
    if unknown:
        raise UserError(f"prepare: unknown option '{unknown[0]}'" + nearest(unknown[0], known))
    images = open_source(
        str(source),
        kind=kind,
        split=split,
        direction=direction,
        label=label,
        encoding=encoding,
        scratch=Path(folder).parent,
        sounds=SoundForm(rate, options.get("channels"), seconds, cut),
    )
    workers = workers or len(os.sched_getaffinity(0))
    return prepare_source(images, Path(folder), PrepareOptions(**options), workers=workers)


def train(
    config: Place | Mapping[str, Any],
    *,
    allow_config_change: bool = False,
    stop_at_kimg: float | None = None,
    **overrides: Any,
) -> Run:
    """Train, or go on in an existing run folder.

    It trains on one rank, in this process; or, where torchrun and the like have started several processes, as one of
    their ranks. While it trains in the main thread, a signal (Ctrl-C, SIGTERM) saves the state and ends it.

    Args:
        config: a YAML file, or a mapping of the same keys.
        allow_config_change: go on in a run folder of another config.
        stop_at_kimg: stop at this place, with all saved; None for the end of the run.
        overrides: keys of the config: nested, `optim={"G": {"lr": 4e-4}}`, or dotted, `**{"optim.G.lr": 4e-4}`. A
            mapping changes the keys that it names; one with a `kind` takes the place of what was there.

    Raises:
        ConfigError: the config does not fit itself, the data or the run folder.
        DataError: the data are damaged or out of reach.
        UserError: a process group is there already: bigtrain makes its own.
    """
    source = str(config) if isinstance(config, str | Path) else "config"
    data = dict(config) if isinstance(config, Mapping) else read_yaml(config)
    for key, value in overrides.items():
        data = _with_override(data, key.split("."), value)
    parsed = parse_training(data, source=source)
    with _as_before(), stop.signals_caught():
        result = train_as_a_rank(parsed, allow_change=allow_config_change, stop_at_kimg=stop_at_kimg)
    snapshots = sorted((parsed.folder / "snapshots").glob("kimg*"))
    return Run(parsed.folder, result.complete, result.scores, snapshots[-1] if snapshots else None)


def load(snapshot: Place, *, device: str | torch.device | None = None) -> Model:
    """Load a snapshot.

    Args:
        snapshot: its folder.
        device: where its networks go; None for the GPU where there is one, else the CPU.

    Raises:
        SnapshotError: missing or damaged.
    """
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return Model(load_snapshot(snapshot), Path(snapshot), device)


def evaluate(
    snapshot: Place,
    data: Place | Mapping[str, Place] | None = None,
    metrics: Sequence[str] = ("fid",),
    samples: int = 50_000,
    **options: Any,
) -> dict[str, Score]:
    """Score a snapshot against a dataset, on one rank or as one of several, as in `train`.

    Args:
        snapshot: its folder.
        data: the dataset, of several streams one by name; None for those that the run trained on.
        metrics: which, see docs/reference/metrics.md.
        samples: images to generate.
        options: see `bigtrain.run.evaluate.EvaluateSettings`, for example `reference_samples`, `extractor`.

    Returns:
        Scores by name, each with its value, protocol and noise.

    Raises:
        ConfigError, DataError, EvaluationError, SnapshotError: missing, damaged, or not fitting each other.
    """
    given = {"snapshot": str(snapshot), "metrics": list(metrics), "samples": samples, **options}
    if data is not None:
        given["data"] = {name: str(place) for name, place in data.items()} if isinstance(data, Mapping) else str(data)
    settings = parse_config(EvaluateSettings, given, source="evaluate")
    with _ranks() as ranks:
        return evaluate_as(settings, ranks)


@contextmanager
def _ranks() -> Iterator[Ranks]:
    """Be a rank for the length of a block."""
    failed = True
    with _as_before():
        try:
            yield join_ranks()
            failed = False
        finally:
            leave_ranks(failed=failed)


@contextmanager
def _as_before() -> Iterator[None]:
    """Leave no trace of a process group, which sets a hook that prints tracebacks with the rank's number.

    Raises:
        UserError: there is a group already.
    """
    if dist.is_initialized():
        raise UserError("torch.distributed has a process group already; bigtrain makes its own: destroy it first")
    hook = sys.excepthook
    try:
        yield
    finally:
        sys.excepthook = hook


def _with_override(data: Mapping[str, Any], keys: Sequence[str], value: Any) -> dict[str, Any]:
    """Return a config's data with the value at a key changed."""
    key, *inner = keys
    before = data.get(key)
    if inner:
        value = _with_override(before if isinstance(before, Mapping) else {}, inner, value)
    elif isinstance(value, Mapping) and isinstance(before, Mapping) and "kind" not in value:
        for name, one in value.items():
            before = _with_override(before, [name], one)
        value = before
    return {**data, key: value}
