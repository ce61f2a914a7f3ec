"""What `import bigtrain as bt` offers: preparing data, training, sampling, translating and scoring, as the commands do.

A mistake of the caller's raises a `UserError` or a `DataError`, whose message is the one line that the command prints.
"""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from math import pi
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
from data_pipelines.prepare.clip_form import ClipForm
from data_pipelines.prepare.mesh_form import MeshForm
from data_pipelines.prepare.run import PrepareOptions
from data_pipelines.prepare.run import prepare as prepare_source
from data_pipelines.prepare.sound_form import Cut, SoundForm

Place = str | Path

_OF_FRAMES = ("resolution", "crop", "filter", "upscale", "channels")
"""Options of `prepare` that apply to the frames of videos, too."""


@dataclass(frozen=True)
class Run:
    """The result of a training.

    Attributes:
        folder: the run folder.
        complete: whether the run is complete; False if it was stopped, in which case the same call resumes it.
        scores: scores of the last evaluation, by name.
        snapshot: folder of the newest snapshot; None if there is none yet.
    """

    folder: Path
    complete: bool
    scores: Mapping[str, float]
    snapshot: Path | None


class Model:
    """The networks of a snapshot, ready for use; see `load`.

    Args:
        snapshot: the loaded snapshot.
        folder: folder of the snapshot.
        device: device of its networks.
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
        """Generate one output per seed, which depends only on its seed and class, on any device and in any batch.

        Args:
            seeds: number of seeds (0 to seeds - 1), or the seeds themselves; 0 <= seed < 2**63.
            classes: one class for all seeds, or one for each, by name or index; None draws them from the seeds.
            truncation: 1 for the whole distribution; smaller values trade variety for fidelity.
            batch: number of outputs that are computed at once.

        Returns:
            float32 around [-1, 1], on the CPU, shape [N, C, H, W].

        Raises:
            SnapshotError: there is no such class, or the networks generate nothing from seeds.
        """
        seeds = range(seeds) if isinstance(seeds, int) else seeds
        return self.snapshot.sample(seeds, self._labels(classes, len(seeds)), truncation=truncation, batch=batch)

    def apply(
        self,
        images: Tensor,
        *,
        output: str | None = None,
        noise: bool = False,
        batch: int = 16,
        style: Tensor | None = None,
    ) -> Tensor:
        """Translate images of any size that the layers support.

        Args:
            images: images in [-1, 1], shape [N, C, H, W].
            output: name of the output if the networks have several; None for the first.
            noise: whether the network draws its own noise, such as dropout.
            batch: number of images that are computed at once.
            style: image whose style the outputs get, of a network that takes one, in [-1, 1], shape [C, H, W].

        Returns:
            float32 around [-1, 1], on the CPU, shape [N, C', H', W'].

        Raises:
            UserError: the networks translate nothing, have no such output, or images of another shape.
        """
        translation = translation_of(self.snapshot, self.folder, output)
        if translation.continues_films:
            raise UserError(f"apply: {self.folder} continues films: bigtrain apply {self.folder} FILM --out FOLDER")
        channels = translation.input.shape[0]
        if images.ndim != 4 or images.shape[1] != channels:
            raise UserError(f"apply: {self.folder} reads images [N, {channels}, H, W], not {list(images.shape)}")
        if (style is None) != (translation.style is None):
            takes = "no style" if translation.style is None else "a style image, [C, H, W]"
            raise UserError(f"apply: {self.folder} takes {takes}")
        applier = Applier(self.snapshot, translation, self.device, noise, style=None if style is None else style[None])
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
    frames: int | None = None,
    stride: int = 1,
    voxels: int | None = None,
    points: int | None = None,
    views: int | None = None,
    yaw: tuple[float, float] = (-pi, pi),
    pitch: tuple[float, float] = (-0.5, 0.5),
    workers: int | None = None,
    **options: Any,
) -> dict[Path, Manifest]:
    """Make a dataset of shards.

    After an interruption, the same call continues; if the dataset is complete, it does nothing.

    Args:
        source: a name, a path, or KIND:PATH, see docs/how-to/data.md.
        folder: folder of the dataset.
        kind: kind of the source; None detects it.
        split: `train`, `val` or `test` of a source that has splits, or `all`.
        direction: direction of pairs: `AtoB`, or `BtoA`, which exchanges inputs and targets.
        label: column, array or key of the labels; `none` prepares without classes; None looks for the usual names.
        encoding: encoding of tables and of names in archives; None for UTF-8.
        rate: samples per second to which sounds are resampled, or frames per second that are taken from videos; None
            keeps the rate.
        seconds: length to which sounds are cut, in seconds; None for that of the longest among a few.
        cut: how longer sounds and videos are cut: to the `first` seconds or frames, to those in the `center`, or into
            all complete `windows`.
        frames: number of frames of a clip; None for that of the shortest video among a few.
        stride: distance between the frames that are taken from videos.
        voxels: make volumes of meshes, of so many voxels along each axis.
        points: make point clouds of meshes, of so many points on the surface.
        views: render so many pictures of each mesh, of the size `resolution`, with the pose of the camera.
        yaw: least and greatest yaw of the cameras of views, in radians.
        pitch: the same of their pitch.
        workers: number of processes; None for one per core.
        options: further options, see `data_pipelines.prepare.run.PrepareOptions`, for example `resolution=(256, 256)`,
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
        clips=ClipForm(frames, rate, stride, cut, **{name: options[name] for name in _OF_FRAMES if name in options}),
        meshes=MeshForm(voxels, points, views, options.get("resolution"), yaw, pitch),
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
    """Train, or resume a run in an existing run folder.

    It trains on one rank, in this process; or, where torchrun and the like have started several processes, as one of
    their ranks. While it trains in the main thread, a signal (Ctrl-C, SIGTERM) saves the state and ends it.

    Args:
        config: path of a YAML file, or a mapping with the same keys.
        allow_config_change: whether a run folder with another config may be resumed.
        stop_at_kimg: position in kimg at which the run saves and stops; None for the end of the run.
        overrides: keys of the config: nested, `optim={"G": {"lr": 4e-4}}`, or dotted, `**{"optim.G.lr": 4e-4}`. A
            mapping changes only the keys that it contains; a mapping with a `kind` replaces the previous one.

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
        snapshot: folder of the snapshot.
        device: device for the networks; None for the GPU if there is one, and otherwise the CPU.

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
    """Score a snapshot against a dataset, on a single rank or as one of several, as in `train`.

    Args:
        snapshot: folder of the snapshot.
        data: the dataset, or a mapping from the name of each stream to its dataset; None for those of the snapshot's
            run.
        metrics: names of the metrics, see docs/reference/metrics.md.
        samples: number of images to generate.
        options: further options, see `bigtrain.run.evaluate.EvaluateSettings`, for example `reference_samples`,
            `extractor`.

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
        raise UserError("torch.distributed already has a process group, and bigtrain creates its own: destroy it first")
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
