"""Checks of a run's datasets before anything is started: that they fit the config, and the run's checkpoints."""

from bigtrain.checkpoint import newest_description
from bigtrain.config import TrainingConfig
from bigtrain.core.config import ConfigError
from bigtrain.core.logging import log
from bigtrain.core.rng import SCHEME
from bigtrain.engine.stream_config import Share, StreamConfig
from bigtrain.evaluation.errors import EvaluationError
from bigtrain.evaluation.images.shards import check_number
from data_pipelines.batches import BatchMaker
from data_pipelines.errors import DataError
from data_pipelines.faults import FaultLog
from data_pipelines.fields.spec import FieldSpec
from data_pipelines.manifest import Manifest


def check_data(config: TrainingConfig) -> str:
    """Check that the data of every stream fit the config, and return their digest.

    Raises:
        ConfigError: they do not.
        DataError: the dataset's files do not fit its manifest.
    """
    return "+".join(_check_stream(config, name, stream) for name, stream in config.data.streams.items())


def check_checkpoint(config: TrainingConfig, digest: str) -> None:
    """Check that a run which is resumed has the samples and the random numbers that it began with.

    Raises:
        ConfigError: it has others.
    """
    newest = newest_description(config.folder / "checkpoints")
    trained_on, scheme = newest.get("data", digest), newest.get("rng", SCHEME)
    advice = "choose another run_dir, or continue with --allow-config-change"
    if trained_on != digest:
        paths = ", ".join(config.data.paths)
        raise ConfigError(
            f"{paths}: contains other samples than those that {config.run_dir} was trained on (digest "
            f"{trained_on[:12]} -> {digest[:12]}); {advice}"
        )
    if scheme != SCHEME:
        raise ConfigError(f"{config.run_dir}: its random numbers were {scheme}, but now are {SCHEME}; {advice}")


def _check_stream(config: TrainingConfig, name: str, stream: StreamConfig) -> str:
    """Check that the data of one stream fit the config, and return their digest."""
    faults, key = FaultLog(), f"data.streams.{name}" if name else "data"
    plan = stream.plan(
        Share(config.seed, config.global_batch, config.health.held_out, total=round(config.total_kimg * 1000))
    )
    dataset = plan.open(faults)
    manifest = dataset.manifest
    for field, spec in stream.specs().items():
        if field not in manifest.fields:
            has = ", ".join(manifest.fields)
            raise ConfigError(f"{key}: {stream.place} has no field '{field}', its fields are {has}")
        _check_field(f"{key}.fields.{field}" if stream.fields else key, stream, spec, manifest.fields[field])
    BatchMaker(plan, dataset, faults)  # says what is wrong with the sampling
    _check_reference(config, manifest, stream.place)
    damaged = dataset.check_files()
    if damaged and stream.on_corrupt == "fail":
        raise DataError(f"{damaged[0].problem} (and {len(damaged) - 1} more shards)")
    if damaged:
        files = {fault.file for fault in damaged}
        images = sum(shard.count for shard in manifest.shards if shard.url in files)
        log.warning("%s: other images will replace %d that are missing or truncated", stream.place, images)
    return manifest.digest


def _check_reference(config: TrainingConfig, manifest: Manifest, path: str) -> None:
    """See that evaluations do not compare with more images than they can."""
    if not config.eval.interval_kimg:
        return
    for key, scores in (("eval", config.eval), ("eval.full", config.eval.full)):
        if scores is not None and scores.reference is None:
            try:
                check_number(scores.reference_samples, manifest.count, path)
            except EvaluationError as error:
                raise ConfigError(f"{key}.reference_samples: {error}") from None


def _check_field(key: str, stream: StreamConfig, wanted: FieldSpec, found: FieldSpec) -> None:
    """Compare a field of the config with that of the dataset."""
    if wanted.kind != found.kind:
        raise ConfigError(f"{key}: kind is '{wanted.kind}', but in {stream.place} it is '{found.kind}'")
    if wanted.kind in ("class", "classes"):
        if len(wanted.classes) != len(found.classes):
            raise ConfigError(
                f"{key}.classes is {len(wanted.classes)}, but {stream.place} has {len(found.classes)} "
                "(0 trains without classes)"
            )
        return
    if wanted.dtype != found.dtype:
        raise ConfigError(f"{key}.dtype is {wanted.dtype}, but {stream.place} has {found.dtype}")
    if wanted.rate is not None and wanted.rate != found.rate:
        raise ConfigError(f"{key}.rate is {wanted.rate:g}, but {stream.place} has {found.rate or 0:g}")
    if wanted.kind != "image":
        if wanted.shape != found.shape:
            raise ConfigError(f"{key}.shape is {list(wanted.shape)}, but {stream.place} has {list(found.shape)}")
        return
    (channels, height, width), (theirs, *size) = wanted.shape, found.shape
    larger = size[0] >= height and size[1] >= width
    if (height, width) != tuple(size) and not (stream.reading.crop and larger):
        advice = f" ({key}.crop: random would crop them)" if larger else ""
        raise ConfigError(
            f"{key}.resolution and width are {height}x{width}, but the images in {stream.place} are "
            f"{size[0]}x{size[1]} (height x width){advice}"
        )
    if channels != theirs:
        raise ConfigError(f"{key}.channels is {channels}, but the images in {stream.place} have {theirs}")
