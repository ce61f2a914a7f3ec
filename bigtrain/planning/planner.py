"""Plans a run: what it takes on a cluster, by each strategy."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bigtrain.config import TrainingConfig
from bigtrain.core.config import ConfigError
from bigtrain.planning.counting import FakeRun
from bigtrain.planning.hardware import Cluster
from bigtrain.planning.micro_batch import SHARE, candidates
from bigtrain.planning.step import Setup, StepTime, phase_messages, step_messages, step_time, summed
from bigtrain.strategies import StrategyConfig, check_strategies, strategy_of
from bigtrain.strategies.ddp import DDPConfig
from bigtrain.strategies.deepspeed import DeepSpeedConfig
from bigtrain.strategies.fsdp import FSDPConfig
from bigtrain.strategies.plans.base import Parts, StrategyPlan
from bigtrain.strategies.plans.work import Work
from bigtrain.strategies.single import SingleConfig

CONTEXT = 2**30
"""Bytes of a card that PyTorch and the driver take for themselves, about."""


@dataclass(frozen=True)
class Estimate:
    """A strategy on a cluster.

    Attributes:
        name: of the strategy.
        refused: why it cannot train this run there; None if it can.
        memory: of a rank at its fullest moment, by part, in bytes.
        fits: whether that is within the share of the card that `micro_batch: auto` would fill.
        largest_micro_batch: that fits and that the batch and the objective allow; 0 for none.
        time: of a step.
        img_per_s: images a second, all ranks together.
        efficiency: that, over what as many cards would do that need not talk.
        mfu: share of the card's peak that the counted operations are.
        messages: of a step, by purpose: `what`, `kind`, `counted` by the run, `messages`, `bytes`.
    """

    name: str
    refused: str | None
    memory: Parts
    fits: bool
    largest_micro_batch: int
    time: StepTime
    img_per_s: float
    efficiency: float
    mfu: float
    messages: Sequence[Mapping[str, Any]]


class Planner:
    """Counts a run once, and estimates it on any cluster.

    Args:
        config: of the run; its data need not exist.
        world_size: ranks that it is planned for.

    Attributes:
        micro_batch: images at once that the counts are of.
        works: a micro-batch of each kind of phase.
        often: how often a step has it.
        players: the players' sizes.
        averaged: bytes of weights and of buffers of each player's networks that are averaged.

    Raises:
        ConfigError: the batch does not divide over the ranks, or the objective does not take it.
    """

    def __init__(self, config: TrainingConfig, world_size: int) -> None:
        self.config = config
        self.sizes = candidates(config, world_size)
        if config.micro_batch != "auto":
            config.accumulation(world_size)
        self.micro_batch = self.sizes[0] if config.micro_batch == "auto" else config.micro_batch
        self._run = FakeRun(config, on_gpus=True)
        kinds = self._run.kinds()
        self.often = {kind: often for kind, (_, often) in kinds.items()}
        self.works = {kind: self._run.work(phase, self.micro_batch) for kind, (phase, _) in kinds.items()}
        self.players = {name: self._run.sizes(name) for name in self._run.task.players}
        self.averaged = self._run.averaged()
        self.batches_per_step = self._run.task.batches_per_step
        fullest = max(self.works, key=lambda kind: self.works[kind].activations)
        self._slope = self._share_of_size(kinds[fullest][0], self.works[fullest])

    def _share_of_size(self, phase: Any, work: Work) -> float:
        """Return how much of a phase's activations grows with the micro-batch, measured at a second size."""
        others = [size for size in self.sizes if size <= self.micro_batch / 2][-1:]
        others = others or [size for size in self.sizes if size >= self.micro_batch * 2][:1]
        if not others:
            return 1.0
        other = self._run.work(phase, others[0])
        slope = (other.activations - work.activations) / (others[0] - self.micro_batch)
        return min(max(slope * self.micro_batch / work.activations, 0.0), 1.0)

    def at(self, micro_batch: int, images: int) -> Setup:
        """Return the counts for another micro-batch: operations in proportion, activations on a straight line.

        Args:
            micro_batch: images at once.
            images: of a step and rank, in each of a step's batches.
        """
        ratio = micro_batch / self.micro_batch
        grown = 1 + self._slope * (ratio - 1)
        works = {
            kind: replace(
                work,
                flops=work.flops * ratio,
                bytes=work.bytes * ratio,
                activations=work.activations * grown,
                with_gradients=work.with_gradients + work.activations * (grown - 1),
                late=work.late + work.activations * (grown - 1),
            )
            for kind, work in self.works.items()
        }
        config = self.config
        return Setup(
            works=works,
            often=self.often,
            micro_batch=micro_batch,
            accumulation=images // micro_batch,
            precision=config.precision,
            tf32=config.tf32,
            averaged={name: weights for name, (weights, _) in self.averaged.items()},
            averages=1 + len(config.ema.profiles),
        )

    def estimate(
        self, name: str, strategy: StrategyConfig, cluster: Cluster, *, micro_batch: int, images: int
    ) -> Estimate:
        """Return what a strategy takes.

        Args:
            name: what to call it.
            strategy: of all players, or one for each.
            cluster: where.
            micro_batch: images at once.
            images: of a step and rank, in each of a step's batches.
        """
        setup = self.at(micro_batch, images)
        players = self.shared(strategy, cluster.world_size, setup.accumulation)
        time = step_time(setup, players, cluster)
        alone = step_time(setup, self.shared(SingleConfig(), 1, setup.accumulation), _one_of(cluster))
        room = SHARE * (cluster.gpu.memory_gb * 1e9 - CONTEXT)
        memory = self.memory(setup, players, images)
        peak = cluster.gpu.peak(*_formats(self.config))
        seen = cluster.world_size * images * self.batches_per_step
        return Estimate(
            name=name,
            refused=self._refusal(strategy, cluster.world_size),
            memory=memory,
            fits=memory.total <= room,
            largest_micro_batch=self._largest(strategy, cluster.world_size, images, room),
            time=time,
            img_per_s=seen / time.total,
            efficiency=alone.total / time.total,
            mfu=setup.flops / time.total / peak,
            messages=self.messages(setup, players),
        )

    def memory(self, setup: Setup, players: Mapping[str, StrategyPlan], images: int) -> Parts:
        """Return a rank's memory at its fullest moment: in one of the phases, at the end of one, or at the average."""
        batch = self._sample_bytes * (images * self.batches_per_step + setup.micro_batch)
        kept = sum((player.kept() for player in players.values()), Parts(buffers=batch))
        kept += Parts(average=setup.averages * sum(map(sum, self.averaged.values())))
        moments = [players[name].at_average() for name in setup.averaged]
        moments += [player.at_step() for player in players.values()]
        for work in setup.works.values():
            moments += players[work.player].in_phase(work)
        return kept + max(moments, key=lambda parts: parts.total)

    def messages(self, setup: Setup, players: Mapping[str, StrategyPlan]) -> list[dict[str, Any]]:
        """Return what a rank sends in a mean step, by purpose."""
        found = [(message, 1.0) for message in step_messages(players, setup)]
        for kind, often in setup.often.items():
            found += [(message, often) for message in phase_messages(setup.works[kind], players, setup)]
        return summed(found)

    @property
    def _sample_bytes(self) -> int:
        """Bytes of a sample on the device: images and the like become float32."""
        return sum(4 * math.prod(spec.shape) for spec in self.config.data.field_specs().values() if spec.shape)

    def shared(self, strategy: StrategyConfig, ranks: int, accumulation: int) -> dict[str, StrategyPlan]:
        """Return what a strategy does with each player."""
        optimizers, precision = self._run.task.optimizers, self.config.precision
        return {
            name: strategy_of(strategy, name).plan(sizes, optimizers[name], ranks, precision, accumulation)
            for name, sizes in self.players.items()
        }

    def _largest(self, strategy: StrategyConfig, ranks: int, images: int, room: float) -> int:
        """Return the largest micro-batch that fits, of those that divide a rank's images."""
        fitting = [0]
        for size in (size for size in self.sizes if images % size == 0):
            setup = self.at(size, images)
            if self.memory(setup, self.shared(strategy, ranks, setup.accumulation), images).total <= room:
                fitting.append(size)
        return max(fitting)

    def _refusal(self, strategy: StrategyConfig, ranks: int) -> str | None:
        try:
            check_strategies(strategy, self.config.requirements(), ranks, here=False)
        except ConfigError as error:
            return str(error).removeprefix("strategy.").removeprefix("strategy: ")
        return None


def choices(config: TrainingConfig, cluster: Cluster) -> dict[str, StrategyConfig]:
    """Return the strategies to compare by name; the config's own is `configured` where it is none of the usual ones."""
    usual: dict[str, StrategyConfig] = {
        "single": SingleConfig(),
        "ddp": DDPConfig(),
        **{f"zero-{stage}": DeepSpeedConfig(stage=stage) for stage in (1, 2, 3)},
        "fsdp": FSDPConfig(),
    }
    if cluster.nodes > 1 < cluster.gpus_per_node:
        usual["hsdp"] = FSDPConfig(shard_ranks=cluster.gpus_per_node)
    return usual if config.strategy in usual.values() else {"configured": config.strategy, **usual}


def _one_of(cluster: Cluster) -> Cluster:
    return replace(cluster, nodes=1, gpus_per_node=1)


def _formats(config: TrainingConfig) -> tuple[Any, ...]:
    """Return the formats whose peak a run is compared with, the best first."""
    by_precision: dict[str, tuple[str, ...]] = {"fp16": ("fp16",), "bf16": ("bf16",), "pure_bf16": ("bf16",)}
    return by_precision.get(config.precision, ("tf32",) if config.tf32 else ())
