"""The composition root: the only place that knows every part. A config goes in, a trainer comes out."""

import os
from pathlib import Path

import torch
from torch import nn

from bigtrain.checkpoint import Checkpoints, newest_description
from bigtrain.config import AnyTraining
from bigtrain.core.config import ConfigError
from bigtrain.core.logging import log
from bigtrain.core.rng import SCHEME
from bigtrain.core.state import Progress, Stateful
from bigtrain.distributed.collectives import RunningMeans, is_rank_zero
from bigtrain.distributed.init import Ranks, node_from_environment
from bigtrain.distributed.precision import allow_tf32, check_precision
from bigtrain.distributed.statistics import synchronise_statistics
from bigtrain.distributed.watchdog import Watchdog
from bigtrain.engine.ema import EMA
from bigtrain.engine.reals import held_out_reals, trained_reals
from bigtrain.evaluation.extractors import build_extractor
from bigtrain.evaluation.in_training import Evaluations
from bigtrain.generate.previews import REALS, Previews
from bigtrain.health.checkup import Checkup
from bigtrain.health.health import Health
from bigtrain.health.probes.features import FeatureProbe
from bigtrain.health.probes.logits import LogitProbe
from bigtrain.health.probes.weights import WeightProbe
from bigtrain.health.recovery import Recovery
from bigtrain.models import Discriminator, Generator
from bigtrain.models.recompute import recompute_stages
from bigtrain.planning.costs import PhaseCosts
from bigtrain.planning.micro_batch import candidates
from bigtrain.run.folder import check_run_folder, digest_of
from bigtrain.run.journal import Journal
from bigtrain.run.load import Load
from bigtrain.run.profiling import Profile
from bigtrain.run.usage import Usage
from bigtrain.strategies import check_strategies, strategy_of
from bigtrain.tasks.base import Task
from bigtrain.tracking.tracker import Tracker
from bigtrain.trainer import Trainer
from data_pipelines.batches import BatchMaker, BatchPlan
from data_pipelines.errors import DataError
from data_pipelines.faults import FaultLog
from data_pipelines.read import ShardDataset
from data_pipelines.stream import BatchStream


def check(config: AnyTraining, *, world_size: int, allow_change: bool, cuda: bool | None = None) -> None:
    """Find what would stop the run, before anything is started.

    Args:
        config: of the run.
        world_size: number of ranks.
        allow_change: whether the run folder may hold a run of another config.
        cuda: whether the ranks will have GPUs; None if that is as it is here.

    Raises:
        ConfigError: the config does not fit itself, the ranks, the data or the run folder.
        DataError: the dataset's files do not fit its manifest.
    """
    check_strategies(config.strategy, config.demands(), world_size)
    _check_switches(config)
    if config.micro_batch == "auto":
        config = config.model_copy(update={"micro_batch": candidates(config, world_size)[-1]})
    config.accumulation(world_size)
    check_precision(config.precision, cuda=torch.cuda.is_available() if cuda is None else cuda)
    check_run_folder(config, allow_change=allow_change)
    digest = _check_data(config)
    if not allow_change:
        _check_checkpoint(config, digest)
    networks: dict[str, nn.Module] = {}
    for part, network in config.networks().items():
        try:
            with torch.device("meta"):
                networks[part] = network.build(config.data.image)
        except ValueError as error:
            raise ConfigError(f"{part}: {error}") from None
    if config.init_from is not None:
        config.init_from.check(networks, config.data.image)
    try:
        config.check_task(networks, micro_batch=config.images_at_once)
    except ValueError as error:
        raise ConfigError(str(error)) from None


def build(config: AnyTraining, ranks: Ranks, folder: Path) -> Trainer:
    """Build every part of a run and put them together. Collective."""
    torch.manual_seed(config.seed)  # the networks' initial weights; all other draws are functions of seed and position
    allow_tf32(config.tf32)
    plan = config.data.plan(
        seed=config.seed,
        global_batch=config.global_batch,
        held_out=config.health.held_out,
        rank=ranks.rank,
        world_size=ranks.world_size,
        pieces=config.accumulation(ranks.world_size),
    )
    batches = BatchStream(
        plan, loader=config.data.loader, workers=config.data.workers, quarantine=folder / "quarantine.jsonl"
    )
    dataset, manifest = batches.dataset, batches.dataset.manifest
    histogram = manifest.class_histogram if config.data.classes else ()
    task = config.build_task(config.data.image, histogram, seed=config.seed, device=ranks.device)
    if config.init_from is not None:
        config.init_from.load(_by_part(task))
    ema = EMA(config.ema, task.generator(), prefix=f"{task.averaged[1]}.")
    if config.activation_checkpointing:
        for network in _by_part(task).values():
            recompute_stages(network)
    strategies = {}
    for name, part in task.players.items():
        synchronise_statistics(part, ranks.world_size)
        strategies[name] = strategy_of(config.strategy, name).build(
            part, task.optimizers[name], config.precision, config.accumulation(ranks.world_size), ranks
        )
    progress = Progress(total=round(config.total_kimg * 1000), batch=config.global_batch * task.batches_per_step)
    node = node_from_environment(os.environ) if ranks.local_rank == 0 else None
    tracker = Tracker(config.tracking, folder, active=is_rank_zero(), node=node)
    journal = Journal(folder, tracker, active=is_rank_zero())
    means = RunningMeans()
    health = Health(config.health, lambda key, text: tracker.log_event(f"health.{key}", text, progress))
    weights = WeightProbe()
    recovery = Recovery(config.health.lr_factor, config.seed)
    evaluations = Evaluations(
        config.eval,
        dataset,
        ranks,
        seed=config.seed,
        size=config.data.image.shape[1:],
        on_corrupt=config.data.on_corrupt,
        quarantine=folder / "quarantine.jsonl",
    )
    objects: dict[str, Stateful] = {
        "progress": progress,
        **strategies,
        "ema": ema,
        "means": means,
        "tracker": tracker,
        "health": health,
        "weights": weights,
        "recovery": recovery,
        "evaluations": evaluations,
        **task.stateful(),
    }
    return Trainer(
        config=config,
        folder=folder,
        manifest=manifest,
        ranks=ranks,
        task=task,
        strategies=strategies,
        ema=ema,
        batches=batches,
        evaluations=evaluations,
        tracker=tracker,
        journal=journal,
        checkpoints=Checkpoints(
            config.checkpoint,
            folder / "checkpoints",
            objects,
            facts={"config": digest_of(config), "data": manifest.digest, "rng": SCHEME},
            on_damage=lambda path: journal.note("damaged_checkpoint", progress, checkpoint=path.name),
            device=ranks.device,
        ),
        progress=progress,
        means=means,
        checkup=_checkup(config, plan, dataset, ranks, health, weights),
        recovery=recovery,
        watchdog=Watchdog(config.watchdog, ranks, folder),
        load=Load(ranks, strategies, folder),
        previews=Previews(
            task,
            trained_reals(dataset, plan, REALS, config.data.image.shape[1:], labelled=config.data.classes > 0),
            manifest.classes if config.data.classes else (),
            seed=config.seed,
            chunk=config.images_at_once,
            ranks=ranks,
        ),
        usage=Usage(PhaseCosts(config), ranks, config.accumulation(ranks.world_size)),
        profile=Profile(folder, ranks, active=config.profile),
    )


def _checkup(
    config: AnyTraining, plan: BatchPlan, dataset: ShardDataset, ranks: Ranks, health: Health, weights: WeightProbe
) -> Checkup:
    count, size, labelled = config.health.images, config.data.image.shape[1:], config.data.classes > 0
    held_out = held_out_reals(dataset, plan, count, size, labelled=labelled)
    shown = trained_reals(dataset, plan, count, size, labelled=labelled)
    compared = trained_reals(dataset, plan, config.health.neighbours, size, labelled=labelled)
    return Checkup(
        health,
        LogitProbe(shown, held_out, micro_batch=config.images_at_once, ranks=ranks),
        weights,
        FeatureProbe(
            lambda: build_extractor(config.eval.extractor, config.eval.dtype, ranks.device),
            compared,
            held_out,
            count=count,
            seed=config.seed,
            ranks=ranks,
        ),
    )


def _check_checkpoint(config: AnyTraining, digest: str) -> None:
    """Find out whether the run would go on with other images or random numbers than it began with."""
    newest = newest_description(config.folder / "checkpoints")
    trained_on, scheme = newest.get("data", digest), newest.get("rng", SCHEME)
    advice = "choose another run_dir, or go on with --allow-config-change"
    if trained_on != digest:
        raise ConfigError(
            f"{config.data.path}: holds other images than {config.run_dir} was trained on (digest {trained_on[:12]} -> "
            f"{digest[:12]}); {advice}"
        )
    if scheme != SCHEME:
        raise ConfigError(f"{config.run_dir}: its random numbers came from {scheme}, now from {SCHEME}; {advice}")


def _check_switches(config: AnyTraining) -> None:
    for player in ("G", "D"):
        kind = strategy_of(config.strategy, player).kind
        if kind == "deepspeed" and config.precision in ("pure_bf16", "fp16"):
            raise ConfigError(f"precision '{config.precision}': not with strategy 'deepspeed'; use 'bf16'")
        if kind in ("fsdp", "deepspeed") and config.compile:
            raise ConfigError(f"compile: not with strategy '{kind}', which gathers weights as it goes; use 'ddp'")


def _by_part(task: Task) -> dict[str, Generator | Discriminator]:
    """Return a task's networks as `init_from` calls them."""
    networks = [network for player in task.players.values() for network in player.networks().values()]
    judges = [network for network in networks if isinstance(network, Discriminator)]
    parts: dict[str, Generator | Discriminator] = {"generator": task.generator()}
    return parts | ({"discriminator": judges[0]} if len(judges) == 1 else {})


def _check_data(config: AnyTraining) -> str:
    """Find out whether the data fit the config; return their digest."""
    data, faults = config.data, FaultLog()
    plan = data.plan(seed=config.seed, global_batch=config.global_batch, held_out=config.health.held_out)
    dataset = plan.open(faults)
    manifest = dataset.manifest
    _, height, width = data.image.shape
    larger = manifest.shape[1] >= height and manifest.shape[2] >= width
    if manifest.shape[1:] != (height, width) and not (data.crop and larger):
        advice = " (data.crop: random would cut them)" if larger else ""
        raise ConfigError(
            f"data.resolution and width are {height}x{width}, the images in {data.path} are "
            f"{manifest.shape[1]}x{manifest.shape[2]} (height x width){advice}"
        )
    if data.channels != manifest.channels:
        raise ConfigError(f"data.channels is {data.channels}, the images in {data.path} have {manifest.channels}")
    if data.classes not in (0, len(manifest.classes)):
        raise ConfigError(
            f"data.classes is {data.classes}, {data.path} has {len(manifest.classes)} (0 trains without classes)"
        )
    BatchMaker(plan, dataset, faults)  # says what is wrong with the sampling
    damaged = dataset.check_files()
    if damaged and data.on_corrupt == "fail":
        raise DataError(f"{damaged[0].problem} (and {len(damaged) - 1} more shards)")
    if damaged:
        images = sum(shard.count for shard in manifest.shards if shard.url in {fault.file for fault in damaged})
        log.warning("%s: other images will replace %d that are missing or cut off", data.path, images)
    return manifest.digest
