"""Take real steps of a config on real ranks, and write down what a plan foretells: messages, bytes, memory, time."""

from typing import Any

import torch
import torch.distributed as dist

from bigtrain.config import TrainingConfig, load_training
from bigtrain.core.batch import Batch
from bigtrain.core.rng import Draws
from bigtrain.core.state import Progress
from bigtrain.distributed.init import Ranks
from bigtrain.distributed.memory import LiveBytes
from bigtrain.distributed.statistics import synchronise_statistics
from bigtrain.distributed.traffic import traffic
from bigtrain.engine.ema import EMA
from bigtrain.engine.made_up import random_batch
from bigtrain.engine.step import take_step
from bigtrain.planning.planner import Planner
from bigtrain.strategies import strategy_of
from bigtrain.strategies.single import SingleConfig
from tests.conftest import ROOT

CPU = torch.device("cpu")


class Steps:
    """A rank that trains a config on random images.

    Args:
        overrides: of `configs/synthesis/biggan-fashion32.yaml`.
        alone: take this rank's share of the images and talk to nobody.
    """

    def __init__(self, overrides: list[str], *, alone: bool = False) -> None:
        self.config = config = load(overrides)
        self.rank, self.images = dist.get_rank(), config.global_batch // dist.get_world_size()
        self.world_size = world_size = 1 if alone else dist.get_world_size()
        self.fields = config.data.field_specs()
        self.task = config.build_task(self.fields, {}, seed=0, device=CPU)
        self.averages = {name: EMA(config.ema, network) for name, network in self.task.averaged.items()}
        self.strategies = {}
        ranks = Ranks(self.rank, world_size, self.rank, CPU)
        accumulation = self.images // config.micro_batch_size
        for name, player in self.task.players.items():
            synchronise_statistics(player, world_size)
            strategy = SingleConfig() if alone else strategy_of(config.strategy, name)
            self.strategies[name] = strategy.build(
                player, self.task.optimizers[name], config.precision, accumulation, ranks
            )
        self.progress = Progress(round(config.total_kimg * 1000), config.global_batch * self.task.batches_per_step)

    def take(self) -> None:
        """Take one step, as the trainer does."""
        config, progress = self.config, self.progress
        starts = [progress.samples_seen + n * config.global_batch for n in range(self.task.batches_per_step)]
        take_step(
            self.task,
            self.strategies,
            [self._batch(start) for start in starts],
            progress,
            micro_batch=config.micro_batch_size,
            global_batch=config.global_batch,
            averages=self.averages,
        )

    def _batch(self, position: int) -> Batch:
        draws = Draws(0, torch.arange(self.images) + position + self.rank * self.images)
        return random_batch(self.fields, draws)


def load(overrides: list[str]) -> TrainingConfig:
    """Return the recipe with some changes."""
    return load_training(str(ROOT / "configs" / "synthesis" / "biggan-fashion32.yaml"), overrides)


def observed(overrides: list[str], steps: int = 3) -> dict[str, float]:
    """Train on this rank; return what the last step sent, and the most bytes that it held at a time."""
    with LiveBytes() as live:
        run = Steps(overrides)
        for _ in range(steps):
            live.peak = live.now
            traffic.read()
            with traffic.step():
                run.take()
    totals = traffic.read()
    return {"messages": totals.messages, "bytes": totals.bytes, "peak": live.peak}


def foretold(overrides: list[str], world_size: int) -> dict[str, Any]:
    """Return what a plan says of the same: what a mean step sends and is counted, and the memory by part."""
    config = load(overrides)
    planner = Planner(config, world_size)
    images = config.global_batch // world_size
    setup = planner.at(config.micro_batch_size, images)
    players = planner.shared(config.strategy, world_size, setup.accumulation)
    counted = [entry for entry in planner.messages(setup, players) if entry["counted"]]
    memory = planner.memory(setup, players, images)
    sums = {key: sum(entry[key] for entry in counted) for key in ("messages", "bytes")}
    return {**sums, "peak": memory.total, "memory": memory, "entries": counted}
