"""The composition root: the only place that knows every part. A config goes in, a trainer comes out."""

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from bigtrain.checkpoint import Checkpoints, newest_description
from bigtrain.config import StreamConfig, TrainingConfig
from bigtrain.core.config import ConfigError
from bigtrain.core.logging import log
from bigtrain.core.rng import SCHEME, Draws
from bigtrain.core.state import Progress, Stateful
from bigtrain.distributed.collectives import RunningMeans, is_rank_zero
from bigtrain.distributed.init import Ranks, node_from_environment
from bigtrain.distributed.precision import allow_tf32, check_precision
from bigtrain.distributed.statistics import synchronise_statistics
from bigtrain.distributed.watchdog import Watchdog
from bigtrain.engine.ema import EMA
from bigtrain.engine.feed import Feed, Preparation
from bigtrain.engine.reals import Reals, held_out_reals, side_by_side, trained_reals
from bigtrain.engine.strategy import Strategy
from bigtrain.engine.task import Fields, Task
from bigtrain.evaluation.extractors import build_extractor
from bigtrain.evaluation.images.generated import Generate
from bigtrain.evaluation.images.in_memory import MemoryImages
from bigtrain.evaluation.in_training import Evaluations
from bigtrain.generate.averaged import AveragedNetworks
from bigtrain.generate.inputs import RealInputs
from bigtrain.generate.previews import REALS, Previews
from bigtrain.generate.writer import SnapshotWriter
from bigtrain.health.health import Health
from bigtrain.health.health_monitor import HealthMonitor
from bigtrain.health.probes.features import FeatureProbe
from bigtrain.health.probes.logits import LogitProbe
from bigtrain.health.probes.weights import WeightProbe
from bigtrain.health.recovery import Recovery
from bigtrain.models.recompute import recompute_stages
from bigtrain.planning.costs import PhaseCosts
from bigtrain.planning.micro_batch import candidates
from bigtrain.run.examination import Examination
from bigtrain.run.folder import check_run_folder, digest_of
from bigtrain.run.journal import Journal
from bigtrain.run.load import Load
from bigtrain.run.log import RunLog
from bigtrain.run.profiling import Profile
from bigtrain.run.rollback import Rollback
from bigtrain.run.saving import Saving
from bigtrain.run.scoring import Scoring
from bigtrain.run.spans import RunSpans
from bigtrain.run.start import announce
from bigtrain.run.usage import Usage
from bigtrain.strategies import check_strategies, strategy_of
from bigtrain.tasks.samplers import CLASS
from bigtrain.tracking.tracker import Tracker
from bigtrain.trainer import Trainer
from data_pipelines.batches import BatchMaker, BatchPlan
from data_pipelines.errors import DataError
from data_pipelines.faults import FaultLog
from data_pipelines.fields.spec import FieldSpec
from data_pipelines.read import ShardDataset
from data_pipelines.streams import Streams


def check(config: TrainingConfig, *, world_size: int, allow_change: bool, cuda: bool | None = None) -> None:
    """Find what would stop the run, before anything is started.

    Args:
        config: of the run.
        world_size: number of ranks.
        allow_change: whether the run folder may hold a run of another config.
        cuda: whether CUDA is available on the ranks; None: detect it here.

    Raises:
        ConfigError: the config does not fit itself, the ranks, the data or the run folder.
        DataError: the dataset's files do not fit its manifest.
    """
    try:
        config.check_players()
    except ValueError as error:
        raise ConfigError(str(error)) from None
    check_strategies(config.strategy, config.demands(), world_size)
    _check_switches(config)
    if config.micro_batch == "auto":
        config = config.model_copy(update={"micro_batch": candidates(config, world_size)[-1]})
    config.accumulation(world_size)
    check_precision(config.precision, cuda=torch.cuda.is_available() if cuda is None else cuda)
    check_run_folder(config, allow_change=allow_change)
    digest = "+".join(_check_data(config, name, stream) for name, stream in config.data.streams.items())
    if not allow_change:
        _check_checkpoint(config, digest)
    try:
        specs = config.networks(config.data.field_specs())
        with torch.device("meta"):
            networks = {name: spec.build() for name, spec in specs.items()}
        if config.init_from is not None:
            config.init_from.check(specs, networks)
        config.check_task(networks, micro_batch=config.micro_batch_size)
    except ValueError as error:
        raise ConfigError(str(error)) from None


def build(config: TrainingConfig, ranks: Ranks, folder: Path) -> Trainer:
    """Build every part of a run and put them together. Collective."""
    torch.manual_seed(config.seed)  # the networks' initial weights; all other draws are functions of seed and position
    allow_tf32(config.tf32)
    quarantine = folder / "quarantine.jsonl"
    plans = {name: _plan(config, stream, ranks) for name, stream in config.data.streams.items()}
    stream = _open_streams(config, plans, quarantine)
    datasets = stream.datasets
    manifests = {name: dataset.manifest for name, dataset in datasets.items()}
    fields = {**config.data.field_specs(), **_named_classes(config, datasets)}
    task = _build_task(config, fields, datasets, ranks)
    averages = {name: EMA(config.ema, network) for name, network in task.averaged.items()}
    if config.activation_checkpointing:
        for network in task.networks().values():
            recompute_stages(network)
    strategies = _build_strategies(config, task, ranks)
    progress = Progress(total=round(config.total_kimg * 1000), batch=config.global_batch * task.batches_per_step)
    node = node_from_environment(os.environ) if ranks.local_rank == 0 else None
    tracker = Tracker(config.tracking, folder, active=is_rank_zero(), node=node)
    journal = Journal(folder, tracker, active=is_rank_zero())
    means, load = RunningMeans(), Load(ranks, strategies, folder)
    usage = Usage(PhaseCosts(config), ranks, config.accumulation(ranks.world_size))
    profile = Profile(folder, ranks, active=config.profile)
    samples = max(manifest.count for manifest in manifests.values())
    run_log = RunLog(
        folder,
        progress,
        tracker=tracker,
        journal=journal,
        means=means,
        load=load,
        usage=usage,
        profile=profile,
        samples=samples,
    )
    health = Health(config.health, lambda key, text: tracker.log_event(f"health.{key}", text, progress))
    weights, recovery = WeightProbe(), Recovery(config.health.lr_factor, config.seed)
    scored = _scored_reals(config, task, plans, datasets, fields)
    evaluations = _build_evaluations(config, task, datasets, scored, ranks, quarantine)
    objects: dict[str, Stateful] = {
        "progress": progress,
        **strategies,
        **{f"ema.{name}": average for name, average in averages.items()},
        "means": means,
        "tracker": tracker,
        "health": health,
        "weights": weights,
        "recovery": recovery,
        "evaluations": evaluations,
        **task.stateful(),
    }
    checkpoints = Checkpoints(
        config.checkpoint,
        folder / "checkpoints",
        objects,
        facts={"config": digest_of(config), "data": _digest(datasets), "rng": SCHEME},
        on_damage=lambda path: journal.note("damaged_checkpoint", progress, checkpoint=path.name),
        device=ranks.device,
    )
    averaged = AveragedNetworks(
        task.sampler, averages, progress, seed=config.seed, device=ranks.device, span=profile.span
    )
    monitor = _build_monitor(config, task, plans, datasets, fields, ranks, health, weights, folder)
    examination = Examination(
        monitor, task, strategies, averaged, recovery, progress, run_log, global_batch=config.global_batch
    )
    saving = Saving(checkpoints, examination, progress, run_log)
    class_names = fields[CLASS].classes if CLASS in fields else ()
    snapshots = SnapshotWriter(
        config.snapshot,
        folder,
        task,
        strategies,
        averaged,
        progress,
        class_names=class_names,
        dataset="+".join(manifest.name for manifest in manifests.values()),
        before_failing=saving.wait,
    )
    watchdog = Watchdog(config.watchdog, ranks, folder)
    feed = Feed(
        stream,
        fields,
        {name: _preparation(stream) for name, stream in config.data.streams.items()},
        seed=lambda: recovery.seed,
        device=ranks.device,
        waiting=run_log.waiting_for_data,
    )

    def returned() -> None:
        averaged.forget()
        feed.seek(progress.samples_seen)

    inputs = RealInputs(task.sampler, scored, ranks.device)
    return Trainer(
        config=config,
        progress=progress,
        task=task,
        strategies=strategies,
        averages=averages,
        feed=feed,
        spans=RunSpans(profile, watchdog, usage, progress),
        watchdog=watchdog,
        log=run_log,
        previews=Previews(
            task,
            averaged,
            scored,
            class_names,
            seed=config.seed,
            chunk=config.micro_batch_size,
            ranks=ranks,
        ),
        scoring=Scoring(evaluations, _generate(averaged, inputs), snapshots, checkpoints, progress, run_log),
        snapshots=snapshots,
        examination=examination,
        rollback=Rollback(config.health, monitor, recovery, checkpoints, progress, run_log, returned=returned),
        saving=saving,
        announce=partial(announce, config=config, manifests=manifests, ranks=ranks, task=task, journal=journal),
    )


def _plan(config: TrainingConfig, stream: StreamConfig, ranks: Ranks) -> BatchPlan:
    return replace(
        stream.plan(
            seed=config.seed,
            global_batch=config.global_batch,
            held_out=config.health.held_out,
            rank=ranks.rank,
            world_size=ranks.world_size,
            pieces=config.accumulation(ranks.world_size),
        ),
        fields=tuple(stream.specs()),
    )


def _open_streams(config: TrainingConfig, plans: Mapping[str, BatchPlan], quarantine: Path) -> Streams:
    first = next(iter(config.data.streams.values()))  # all are read alike
    return Streams(plans, loader=first.loader, workers=first.workers, quarantine=quarantine)


def _named_classes(config: TrainingConfig, datasets: Mapping[str, ShardDataset]) -> Fields:
    """Return the class fields with the names that the datasets have for their classes."""
    found = {}
    for stream, dataset in datasets.items():
        for name, spec in config.data.streams[stream].specs().items():
            if spec.kind in ("class", "classes"):
                found[f"{stream}.{name}" if stream else name] = dataset.manifest.fields[name]
    return found


def _build_task(config: TrainingConfig, fields: Fields, datasets: Mapping[str, ShardDataset], ranks: Ranks) -> Task:
    counts = {
        f"{stream}.{CLASS}" if stream else CLASS: dataset.manifest.class_histogram
        for stream, dataset in datasets.items()
    }
    task = config.build_task(fields, counts, seed=config.seed, device=ranks.device)
    if config.init_from is not None:
        config.init_from.load(task.networks())
    return task


def _build_strategies(config: TrainingConfig, task: Task, ranks: Ranks) -> dict[str, Strategy]:
    strategies = {}
    for name, player in task.players.items():
        synchronise_statistics(player, ranks.world_size)
        strategies[name] = strategy_of(config.strategy, name).build(
            player, task.optimizers[name], config.precision, config.accumulation(ranks.world_size), ranks
        )
    return strategies


def _preparation(stream: StreamConfig) -> Preparation:
    return Preparation(stream.crop or "center", stream.flip, stream.label_dropout)


def _build_evaluations(
    config: TrainingConfig,
    task: Task,
    datasets: Mapping[str, ShardDataset],
    scored: Reals,
    ranks: Ranks,
    quarantine: Path,
) -> Evaluations:
    output, spec = next(iter(task.sampler.outputs.items()))
    stream, _, field = output.rpartition(".")
    paired = output in task.sampler.pairs_with_targets
    return Evaluations(
        config.eval,
        datasets[stream],
        ranks,
        seed=config.seed,
        field=field,
        size=(spec.shape[1], spec.shape[2]) if spec.kind == "image" else None,
        on_corrupt=config.data.streams[stream].on_corrupt,
        quarantine=quarantine,
        targets=MemoryImages(scored.fields[output], "the targets") if paired else None,
    )


def _generate(averaged: AveragedNetworks, inputs: RealInputs) -> Generate:
    """Return what makes the samples that are scored, and their classes."""
    output = next(iter(averaged.sampler.outputs))

    def generate(draws: Draws) -> tuple[Tensor, Tensor]:
        given = inputs.take(output, draws)
        made = averaged.sample(given, draws)[output]
        return made, given.get(CLASS, torch.zeros_like(draws.index))

    return generate


def _scored_reals(
    config: TrainingConfig,
    task: Task,
    plans: Mapping[str, BatchPlan],
    datasets: Mapping[str, ShardDataset],
    fields: Fields,
) -> Reals:
    """Return the samples whose inputs are translated for evaluations and previews: held-out ones, if there are any."""
    given = any(spec.kind != "class" for spec in task.sampler.inputs.values())
    count = max(config.eval.samples, REALS) if given else REALS
    held_out = _reals(held_out_reals, plans, datasets, fields, count) if given else None
    return held_out if held_out else _reals(trained_reals, plans, datasets, fields, count)


def _reals(
    choose: Callable[[ShardDataset, BatchPlan, int, Fields], Reals],
    plans: Mapping[str, BatchPlan],
    datasets: Mapping[str, ShardDataset],
    fields: Fields,
    count: int,
) -> Reals:
    """Choose real samples of every stream."""
    parts = []
    for name, dataset in datasets.items():
        prefix = f"{name}." if name else ""
        mine = {field.removeprefix(prefix): spec for field, spec in fields.items() if field.startswith(prefix)}
        parts.append(choose(dataset, plans[name], count, mine).renamed(prefix))
    return side_by_side(parts)


def _build_monitor(
    config: TrainingConfig,
    task: Task,
    plans: Mapping[str, BatchPlan],
    datasets: Mapping[str, ShardDataset],
    fields: Fields,
    ranks: Ranks,
    health: Health,
    weights: WeightProbe,
    folder: Path,
) -> HealthMonitor:
    choose = partial(_reals, plans=plans, datasets=datasets, fields=fields)
    held_out = choose(held_out_reals, count=config.health.images)
    logits = LogitProbe(
        choose(trained_reals, count=config.health.images), held_out, micro_batch=config.micro_batch_size, ranks=ranks
    )
    output, spec = next(iter(task.sampler.outputs.items()))
    features = None
    if spec.kind == "image":
        features = FeatureProbe(
            lambda: build_extractor(config.eval.extractor, config.eval.dtype, ranks.device),
            choose(trained_reals, count=config.health.neighbours),
            held_out,
            field=output,
            conditions=task.sampler.sources(output),
            count=config.health.images,
            seed=config.seed,
            ranks=ranks,
        )
    return HealthMonitor(health, logits, weights, features, folder)


def _digest(datasets: Mapping[str, ShardDataset]) -> str:
    """Return what tells the training data from others."""
    return "+".join(dataset.manifest.digest for dataset in datasets.values())


def _check_checkpoint(config: TrainingConfig, digest: str) -> None:
    """Find out whether the run would go on with other samples or random numbers than it began with."""
    newest = newest_description(config.folder / "checkpoints")
    trained_on, scheme = newest.get("data", digest), newest.get("rng", SCHEME)
    advice = "choose another run_dir, or go on with --allow-config-change"
    if trained_on != digest:
        paths = ", ".join(stream.path for stream in config.data.streams.values())
        raise ConfigError(
            f"{paths}: holds other samples than {config.run_dir} was trained on (digest {trained_on[:12]} -> "
            f"{digest[:12]}); {advice}"
        )
    if scheme != SCHEME:
        raise ConfigError(f"{config.run_dir}: its random numbers came from {scheme}, now from {SCHEME}; {advice}")


def _check_switches(config: TrainingConfig) -> None:
    for player in config.demands():
        kind = strategy_of(config.strategy, player).kind
        if kind == "deepspeed" and config.precision in ("pure_bf16", "fp16"):
            raise ConfigError(f"precision '{config.precision}': not with strategy 'deepspeed'; use 'bf16'")
        if kind in ("fsdp", "deepspeed") and config.compile:
            raise ConfigError(f"compile: not with strategy '{kind}', which gathers weights as it goes; use 'ddp'")


def _check_data(config: TrainingConfig, name: str, stream: StreamConfig) -> str:
    """Find out whether a stream's data fit the config; return their digest."""
    faults, key = FaultLog(), f"data.streams.{name}" if name else "data"
    plan = replace(
        stream.plan(seed=config.seed, global_batch=config.global_batch, held_out=config.health.held_out),
        fields=tuple(stream.specs()),
    )
    dataset = plan.open(faults)
    manifest = dataset.manifest
    for field, spec in stream.specs().items():
        if field not in manifest.fields:
            has = ", ".join(manifest.fields)
            raise ConfigError(f"{key}: {stream.path} has no field '{field}', its fields are {has}")
        _check_field(f"{key}.fields.{field}" if stream.fields else key, stream, spec, manifest.fields[field])
    BatchMaker(plan, dataset, faults)  # says what is wrong with the sampling
    damaged = dataset.check_files()
    if damaged and stream.on_corrupt == "fail":
        raise DataError(f"{damaged[0].problem} (and {len(damaged) - 1} more shards)")
    if damaged:
        images = sum(shard.count for shard in manifest.shards if shard.url in {fault.file for fault in damaged})
        log.warning("%s: other images will replace %d that are missing or cut off", stream.path, images)
    return manifest.digest


def _check_field(key: str, stream: StreamConfig, wanted: FieldSpec, found: FieldSpec) -> None:
    """Compare a field of the config with that of the dataset."""
    if wanted.kind != found.kind:
        raise ConfigError(f"{key}: kind is '{wanted.kind}', in {stream.path} it is '{found.kind}'")
    if wanted.kind in ("class", "classes"):
        if len(wanted.classes) != len(found.classes):
            raise ConfigError(
                f"{key}.classes is {len(wanted.classes)}, {stream.path} has {len(found.classes)} "
                "(0 trains without classes)"
            )
        return
    if wanted.dtype != found.dtype:
        raise ConfigError(f"{key}.dtype is {wanted.dtype}, {stream.path} has {found.dtype}")
    if wanted.kind != "image":
        if wanted.shape != found.shape:
            raise ConfigError(f"{key}.shape is {list(wanted.shape)}, {stream.path} has {list(found.shape)}")
        return
    (channels, height, width), (theirs, *size) = wanted.shape, found.shape
    larger = size[0] >= height and size[1] >= width
    if (height, width) != tuple(size) and not (stream.crop and larger):
        advice = f" ({key}.crop: random would cut them)" if larger else ""
        raise ConfigError(
            f"{key}.resolution and width are {height}x{width}, the images in {stream.path} are "
            f"{size[0]}x{size[1]} (height x width){advice}"
        )
    if channels != theirs:
        raise ConfigError(f"{key}.channels is {channels}, the images in {stream.path} have {theirs}")
