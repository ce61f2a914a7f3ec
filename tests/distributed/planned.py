"""Take real steps of a config on real ranks, and write down what a plan foretells: messages, bytes, memory, time."""

from typing import Any

import torch
import torch.distributed as dist

from bigtrain.config import AnyTraining
from bigtrain.core.batch import Batch
from bigtrain.core.config import load_config
from bigtrain.core.rng import Draws
from bigtrain.core.state import Progress
from bigtrain.distributed.init import Ranks
from bigtrain.distributed.memory import LiveBytes
from bigtrain.distributed.statistics import synchronise_statistics
from bigtrain.distributed.traffic import traffic
from bigtrain.engine.ema import EMA
from bigtrain.planning.planner import Planner
from bigtrain.strategies import strategy_of
from bigtrain.strategies.single import SingleConfig
from tests.conftest import ROOT

CPU = torch.device("cpu")


class Steps:
    """A rank that trains a config on random images.

    Args:
        overrides: of `configs/quickstart.yaml`.
        alone: take this rank's share of the images and talk to nobody.
    """

    def __init__(self, overrides: list[str], *, alone: bool = False) -> None:
        self.config = config = load(overrides)
        self.rank, self.images = dist.get_rank(), config.global_batch // dist.get_world_size()
        self.world_size = world_size = 1 if alone else dist.get_world_size()
        image = config.data.image
        self.task = config.build_task(image, [1] * image.classes, seed=0, device=CPU)
        self.ema = EMA(config.ema, self.task.generator(), prefix="G.")
        self.strategies = {}
        ranks = Ranks(self.rank, world_size, self.rank, CPU)
        accumulation = self.images // config.images_at_once
        for name, player in self.task.players.items():
            synchronise_statistics(player, world_size)
            strategy = SingleConfig() if alone else strategy_of(config.strategy, name)
            self.strategies[name] = strategy.build(
                player, self.task.optimizers[name], config.precision, accumulation, ranks
            )
        self.progress = Progress(round(config.total_kimg * 1000), config.global_batch * self.task.batches_per_step)

    def take(self) -> None:
        """Take one step, as the trainer does."""
        config, task, progress = self.config, self.task, self.progress
        task.before_step(progress)
        batches = [self._batch(progress.samples_seen + n * config.global_batch) for n in range(task.batches_per_step)]
        for phase in task.phases(progress):
            rivals: dict[str, Any] = {}
            for name, strategy in self.strategies.items():
                strategy.set_trainable(name == phase.player)
                if name != phase.player:
                    rivals.update(strategy.infer())
            strategy = self.strategies[phase.player]
            for micro, last in batches[phase.batch].micro_batches(config.images_at_once, task.group):
                loss, _ = strategy.loss(phase, micro, rivals, last_micro=last)
                strategy.backward(loss)
                del loss
            now = (progress.samples_seen, progress.total)
            strategy.step(task.optimizers[phase.player].rates_at(*now, global_batch=config.global_batch))
        self.ema.update(self.strategies["G"].full_params(), progress)
        progress.advance()
        if self.world_size > 1:
            task.after_step(progress)

    def _batch(self, position: int) -> Batch:
        draws = Draws(0, torch.arange(self.images) + position + self.rank * self.images)
        image = self.config.data.image
        real = (draws.uniform(*image.shape) * 2 - 1).contiguous(memory_format=torch.channels_last)
        return Batch(real, draws.integers(max(image.classes, 1), 1).squeeze(1), draws)


def load(overrides: list[str]) -> AnyTraining:
    """Return the quickstart's config with some changes."""
    return load_config(AnyTraining, str(ROOT / "configs" / "quickstart.yaml"), overrides)


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
    setup = planner.at(config.images_at_once, images)
    players = planner.shared(config.strategy, world_size, setup.accumulation)
    counted = [entry for entry in planner.messages(setup, players) if entry["counted"]]
    memory = planner.memory(setup, players, images)
    sums = {key: sum(entry[key] for entry in counted) for key in ("messages", "bytes")}
    return {**sums, "peak": memory.total, "memory": memory, "entries": counted}
