"""The composition root: the only place that knows every part. A config goes in, a trainer comes out."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import torch

from bigtrain.checkpoint import Checkpoints
from bigtrain.config import TrainingConfig
from bigtrain.core.config import ConfigError
from bigtrain.core.launchers import node_from_environment
from bigtrain.core.rng import SCHEME
from bigtrain.core.state import Progress, Stateful
from bigtrain.distributed.collectives import RunningMeans, is_rank_zero
from bigtrain.distributed.init import Ranks
from bigtrain.distributed.joint_wait import JointWait
from bigtrain.distributed.precision import allow_tf32, check_precision
from bigtrain.distributed.statistics import statistics_group, synchronise_statistics
from bigtrain.distributed.watchdog import Watchdog
from bigtrain.engine.ema import EMA
from bigtrain.engine.strategy import Strategy
from bigtrain.engine.task import Task
from bigtrain.evaluation.extractors import build_extractor
from bigtrain.evaluation.in_training import Evaluations
from bigtrain.generate.averaged import AveragedNetworks
from bigtrain.generate.previews import Previews
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
from bigtrain.run.data import RunData, feed_of, open_data
from bigtrain.run.data_checks import check_checkpoint, check_data
from bigtrain.run.examination import Examination
from bigtrain.run.folder import check_run_folder, digest_of
from bigtrain.run.journal import Journal
from bigtrain.run.load import Load
from bigtrain.run.log import RunLog
from bigtrain.run.profiling import Profiler
from bigtrain.run.rollback import Rollback
from bigtrain.run.saving import Saving
from bigtrain.run.scored import given_samples, scored_outputs
from bigtrain.run.scoring import Scoring
from bigtrain.run.spans import RunSpans
from bigtrain.run.start import announce
from bigtrain.run.stopping import Stopping
from bigtrain.run.usage import Usage
from bigtrain.strategies import check_strategies, strategy_of
from bigtrain.tracking.tracker import Tracker, check_tracking
from bigtrain.trainer import Trainer


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
        specs = config.networks(config.data.field_specs())
    except ValueError as error:
        raise ConfigError(str(error)) from None
    check_strategies(config.strategy, config.requirements(), world_size)
    if config.micro_batch == "auto":
        config = config.model_copy(update={"micro_batch": candidates(config, world_size)[-1]})
    config.accumulation(world_size)
    check_tracking(config.tracking)
    check_precision(config.precision, cuda=torch.cuda.is_available() if cuda is None else cuda)
    check_run_folder(config, allow_change=allow_change)
    digest = check_data(config)
    if not allow_change:
        check_checkpoint(config, digest)
    try:
        with torch.device("meta"):
            networks = {name: spec.build() for name, spec in specs.items()}
        if config.init_from is not None:
            config.init_from.check(specs, networks)
        config.check_task(networks, micro_batch=config.micro_batch_size)
        sampler = config.build_sampler(config.data.field_specs(), {})
    except ValueError as error:
        raise ConfigError(str(error)) from None
    if config.eval.best is not None:
        config.eval.check_value("eval.best", config.eval.best, list(sampler.outputs))
    if config.eval.paired and not sampler.pairs_with_targets:
        raise ConfigError(f"eval.pairs: the task '{config.task}' has no targets to compare its outputs with")
    config.check_weights()
    for one in config.eval.kinds:
        one.check_weights()


def build(config: TrainingConfig, ranks: Ranks, folder: Path) -> Trainer:
    """Build every part of a run and put them together. Collective."""
    torch.manual_seed(config.seed)  # the networks' initial weights; all other draws are functions of seed and position
    allow_tf32(config.tf32)
    quarantine = folder / "quarantine.jsonl"
    joint_wait = JointWait(ranks.world_size)
    data, streams = open_data(config, ranks, quarantine, joint_wait.look)
    run = _build_training(config, ranks, folder, data)
    task, progress, log, averaged = run.task, run.progress, run.log, run.averaged
    health = Health(config.health, lambda key, text: log.tracker.log_event(f"health.{key}", text, progress))
    weights, recovery = WeightProbe(), Recovery(config.health.lr_factor, config.seed)
    reals = given_samples(task.sampler, data, config.eval.samples)
    outputs = scored_outputs(task.sampler, data, reals, ranks.device) if config.eval.interval_kimg else []
    evaluations = Evaluations(config.eval, outputs, ranks, seed=config.seed, quarantine=quarantine)
    more: dict[str, Stateful] = {"health": health, "weights": weights, "recovery": recovery, "evaluations": evaluations}
    checkpoints = _build_checkpoints(run, {**more, **task.stateful()})
    monitor = _build_monitor(run, health, weights)
    examination = Examination(
        monitor,
        task,
        run.strategies,
        averaged,
        recovery,
        progress,
        log,
        global_batch=config.global_batch,
        roles=config.roles,
    )
    saving = Saving(checkpoints, examination, progress, log)
    snapshots = _build_snapshots(run, saving)
    watchdog = Watchdog(config.watchdog, ranks, folder)
    feed = feed_of(config, data, streams, seed=lambda: recovery.seed, device=ranks.device, waiting=log.waiting_for_data)

    def returned() -> None:
        averaged.forget()
        feed.seek(progress.samples_seen)

    scoring = Scoring(evaluations, averaged.sample, snapshots, checkpoints, progress, log)
    rollback = Rollback(config.health, monitor, recovery, checkpoints, progress, log, returned=returned)
    chunk = config.micro_batch_size
    return Trainer(
        config=config,
        progress=progress,
        task=task,
        strategies=run.strategies,
        averages=run.averages,
        feed=feed,
        spans=RunSpans(log.profile, watchdog, log.usage, progress),
        watchdog=watchdog,
        log=log,
        previews=Previews(task, averaged, reals, data.class_names, seed=config.seed, chunk=chunk, ranks=ranks),
        scoring=scoring,
        snapshots=snapshots,
        examination=examination,
        rollback=rollback,
        early_stop=Stopping(
            saving, scoring, rollback, progress, joint_wait, lambda: feed.has_read(2 * task.batches_per_step)
        ),
        joint_wait=joint_wait,
        saving=saving,
        announce=partial(
            announce, config=config, manifests=data.manifests, ranks=ranks, task=task, journal=log.journal
        ),
    )


@dataclass(frozen=True)
class _Training:
    """What trains and what is told of it: the parts that most others need."""

    config: TrainingConfig
    ranks: Ranks
    folder: Path
    data: RunData
    task: Task
    averages: dict[str, EMA]
    strategies: dict[str, Strategy]
    progress: Progress
    log: RunLog
    averaged: AveragedNetworks


def _build_training(config: TrainingConfig, ranks: Ranks, folder: Path, data: RunData) -> _Training:
    task = config.build_task(data.fields, data.class_counts, seed=config.seed, device=ranks.device)
    for frozen in task.frozen():
        frozen.load(ranks.device)
    if config.init_from is not None:
        config.init_from.load(task.networks())
    averages = {name: EMA(config.ema, network) for name, network in task.averaged.items()}
    if config.activation_checkpointing:
        for network in task.networks().values():
            recompute_stages(network)
    strategies = _build_strategies(config, task, ranks)
    progress = Progress(total=round(config.total_kimg * 1000), batch=config.global_batch * task.batches_per_step)
    log = _build_log(config, folder, data, strategies, progress, ranks)
    averaged = AveragedNetworks(
        task.sampler,
        averages,
        progress,
        seed=config.seed,
        device=ranks.device,
        span=log.profile.span,
        # A GPU has room for a micro-batch of training, which holds more than one of sampling: no plan counts that.
        chunk=config.micro_batch_size if ranks.device.type == "cuda" else None,
    )
    return _Training(config, ranks, folder, data, task, averages, strategies, progress, log, averaged)


def _build_strategies(config: TrainingConfig, task: Task, ranks: Ranks) -> dict[str, Strategy]:
    strategies = {}
    group = statistics_group(ranks)
    for name, player in task.players.items():
        synchronise_statistics(player, ranks.world_size, group)
        strategies[name] = strategy_of(config.strategy, name).build(
            player, task.optimizers[name], config.precision, config.accumulation(ranks.world_size), ranks
        )
    return strategies


def _build_log(
    config: TrainingConfig,
    folder: Path,
    data: RunData,
    strategies: Mapping[str, Strategy],
    progress: Progress,
    ranks: Ranks,
) -> RunLog:
    node = node_from_environment(os.environ) if ranks.local_rank == 0 else None
    nodes = ranks.world_size // int(os.environ.get("LOCAL_WORLD_SIZE", ranks.world_size))
    tracker = Tracker(config.tracking, folder, active=is_rank_zero(), node=node, nodes=nodes)
    return RunLog(
        folder,
        progress,
        tracker=tracker,
        journal=Journal(folder, tracker, active=is_rank_zero()),
        means=RunningMeans(),
        load=Load(ranks, strategies, folder),
        usage=Usage(PhaseCosts(config), ranks, config.accumulation(ranks.world_size)),
        profile=Profiler(folder, ranks, active=config.profile),
        samples=max(manifest.count for manifest in data.manifests.values()),
    )


def _build_checkpoints(run: _Training, more: Mapping[str, Stateful]) -> Checkpoints:
    stateful: dict[str, Stateful] = {
        "progress": run.progress,
        **run.strategies,
        **{f"ema.{name}": average for name, average in run.averages.items()},
        "means": run.log.means,
        "tracker": run.log.tracker,
        **more,
    }
    return Checkpoints(
        run.config.checkpoint,
        run.folder / "checkpoints",
        stateful,
        facts={"config": digest_of(run.config), "data": run.data.digest, "rng": SCHEME},
        on_damage=lambda path: run.log.journal.note("damaged_checkpoint", run.progress, checkpoint=path.name),
        device=run.ranks.device,
    )


def _build_snapshots(run: _Training, saving: Saving) -> SnapshotWriter:
    return SnapshotWriter(
        run.config.snapshot,
        run.folder,
        run.task,
        run.strategies,
        run.averaged,
        run.progress,
        class_names=run.data.class_names,
        dataset="+".join(manifest.name for manifest in run.data.manifests.values()),
        before_failing=saving.wait,
    )


def _build_monitor(run: _Training, health: Health, weights: WeightProbe) -> HealthMonitor:
    config, task, data, ranks = run.config, run.task, run.data, run.ranks
    images = config.health.images
    held_out = data.held_out(images)
    micro_batch, precision = config.micro_batch_size, config.precision
    logits = LogitProbe(data.trained(images), held_out, micro_batch=micro_batch, ranks=ranks, precision=precision)
    outputs = task.sampler.outputs
    scored = config.eval
    extractor = cache(
        partial(build_extractor, scored.extractor, scored.dtype, ranks.device, weights=scored.weights_path)
    )
    features = [
        FeatureProbe(
            extractor,
            data.trained(config.health.neighbours),
            held_out,
            field=output,
            conditions=task.sampler.sources(output),
            count=images,
            seed=config.seed,
            ranks=ranks,
            suffix=f"/{output}" if len(outputs) > 1 else "",
        )
        for output, spec in outputs.items()
        if spec.kind == "image"
    ]
    return HealthMonitor(health, logits, weights, features, run.folder)
