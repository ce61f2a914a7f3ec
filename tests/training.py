"""Train tiny players by `take_step`, without data on disk: for tests of what a step computes."""

from typing import Any

import torch
import torch.distributed as dist

from bigtrain.core.batch import Batch, dense
from bigtrain.core.config import parse_config
from bigtrain.core.rng import Draws
from bigtrain.core.state import Progress, State
from bigtrain.distributed.collectives import RunningMeans
from bigtrain.distributed.init import Ranks
from bigtrain.distributed.statistics import synchronise_statistics
from bigtrain.engine.ema import EMA
from bigtrain.engine.optimizers import AdamConfig, AdamWConfig, OptimizerConfig, RMSpropConfig, SGDConfig
from bigtrain.engine.step import StepResult, take_step
from bigtrain.models import ImageSpec
from bigtrain.strategies import strategy_of
from bigtrain.strategies.base import StrategySettings
from bigtrain.strategies.ddp import DDPConfig
from bigtrain.strategies.deepspeed import DeepSpeedConfig
from bigtrain.strategies.flat import FlatConfig
from bigtrain.strategies.fsdp import FSDPConfig
from bigtrain.strategies.single import SingleConfig
from bigtrain.tasks.synthesis import SynthesisConfig, SynthesisTask
from data_pipelines.fields.spec import FieldSpec

CPU = torch.device("cpu")
SMALL = ImageSpec(8, 1, 3)
STRATEGIES: dict[str, StrategySettings] = {
    "single": SingleConfig(),
    "ddp": DDPConfig(),
    "flat": FlatConfig(),
    "fsdp": FSDPConfig(),
    **{f"zero{stage}": DeepSpeedConfig(stage=stage) for stage in (0, 1, 2, 3)},
    "zero3_module": DeepSpeedConfig(stage=3, gather="module"),
    "zero2_offload": DeepSpeedConfig(stage=2, offload_optimizer=True),
}
OPTIMIZERS: dict[str, OptimizerConfig] = {
    "adam": AdamConfig(lr=1e-2),
    "adamw": AdamWConfig(kind="adamw", lr=1e-2, weight_decay=0.1),
    "sgd": SGDConfig(kind="sgd", lr=1e-2, weight_decay=0.1, nesterov=True),
    "rmsprop": RMSpropConfig(kind="rmsprop", lr=1e-2),
}
"""One of each kind."""

STYLEGAN2 = {
    "generator": {
        "kind": "stylegan2",
        "z_dim": 8,
        "w_dim": 8,
        "mapping_layers": 2,
        "channel_base": 64,
        "channel_max": 8,
    },
    "discriminator": {
        "kind": "stylegan2",
        "channel_base": 64,
        "channel_max": 8,
        "mapping_layers": 1,
        "mbstd_group": 1,
    },
}


def fields_of(image: ImageSpec) -> dict[str, FieldSpec]:
    """Return the fields of images, with classes where there are some."""
    classes = tuple(map(str, range(image.classes)))
    fields = {"image": FieldSpec("image", image.shape, "uint8")}
    return fields | ({"class": FieldSpec("class", (), "int64", classes)} if classes else {})


def by_name(strategy: str) -> Any:
    """Return one of STRATEGIES for both players; or G's and D's, as in `zero3+ddp`."""
    G, _, D = strategy.partition("+")
    return {"G": STRATEGIES[G], "D": STRATEGIES[D]} if D else STRATEGIES[G]


class Training:
    """Players, strategies and batches of one rank.

    Args:
        config: as in a YAML file; networks and optimizer have small defaults.
        image: of the (random) data.
        global_batch: images of a batch over all ranks.
        micro_batch: images that are computed at once.
        precision: of the strategies.
        strategy: see `by_name`; None for DDP, or none where there is one rank.
        seed: of weights, data and draws.
    """

    def __init__(
        self,
        config: dict[str, Any],
        image: ImageSpec = SMALL,
        *,
        global_batch: int = 16,
        micro_batch: int = 4,
        precision: str = "fp32",
        strategy: str | None = None,
        seed: int = 0,
    ) -> None:
        torch.manual_seed(seed)
        parsed = self.parse(config)
        rank, world_size = dist.get_rank(), dist.get_world_size()
        self.image, self.global_batch, self.micro_batch, self.seed = image, global_batch, micro_batch, seed
        self.share = slice(rank * global_batch // world_size, (rank + 1) * global_batch // world_size)
        self.fields = fields_of(image)
        self.task = SynthesisTask(parsed, self.fields, {}, seed=seed, device=CPU)
        chosen = by_name(strategy or ("ddp" if world_size > 1 else "single"))
        self.strategies = {}
        for name, player in self.task.players.items():
            synchronise_statistics(player, world_size)
            build = strategy_of(chosen, name).build
            accumulation = global_batch // world_size // micro_batch
            ranks = Ranks(rank, world_size, rank, CPU)
            self.strategies[name] = build(player, self.task.optimizers[name], precision, accumulation, ranks)
        self.progress = Progress(10_000, global_batch * self.task.batches_per_step)
        self.means = RunningMeans()
        self.averages: dict[str, EMA] = {}
        self.start = self.weights()

    @staticmethod
    def parse(config: dict[str, Any]) -> SynthesisConfig:
        """Fill in the defaults."""
        # With its usual epsilon Adam makes a full step of either sign out of a gradient that is only rounding.
        optim = {"G": {"lr": 1e-3, "eps": 1e-4}, "D": {"lr": 1e-3, "eps": 1e-4}}
        defaults = {**STYLEGAN2, "optim": optim, "global_batch": 16}
        return parse_config(SynthesisConfig, {**defaults, **config}, source="test")

    def batch(self, position: int) -> Batch:
        """Return this rank's share of the global batch that begins at `position`."""
        draws = Draws(1 + self.seed, torch.arange(position, position + self.global_batch)[self.share], "data")
        real = draws.uniform(*self.image.shape) * 2 - 1
        label = draws.integers(max(self.image.classes, 1), 1).squeeze(1)
        return Batch({"image": dense(real), "class": label}, draws)

    def step(self) -> StepResult:
        """Take one step."""
        starts = [self.progress.samples_seen + k * self.global_batch for k in range(self.task.batches_per_step)]
        result = take_step(
            self.task,
            self.strategies,
            [self.batch(start) for start in starts],
            self.progress,
            micro_batch=self.micro_batch,
            global_batch=self.global_batch,
            averages=self.averages,
        )
        for told in result.stats:
            self.means.add(told)
        return result

    def run(self, steps: int) -> dict[str, Any]:
        """Take some steps; return the weights before and after, and the means of what was measured."""
        for _ in range(steps):
            self.step()
        return {"start": self.start, "weights": self.weights(), "means": self.means.read()}

    def weights(self) -> dict[str, torch.Tensor]:
        """Return copies of all parameters."""
        parameters = {name: dict(player.named_parameters()) for name, player in self.task.players.items()}
        return {
            f"{name}.{key}": value.detach().clone()
            for name, strategy in self.strategies.items()
            for key, value in strategy.full_params()
            if key in parameters[name]
        }

    def state_dict(self) -> State:
        """Return what a checkpoint holds."""
        parts = {"progress": self.progress, **self.strategies, **self.task.stateful()}
        return {name: part.state_dict() for name, part in parts.items()}

    def load_state_dict(self, state: State) -> None:
        """Go on from `state`."""
        for name, part in {"progress": self.progress, **self.strategies, **self.task.stateful()}.items():
            part.load_state_dict(state[name])


def distance(one: dict[str, Any], other: dict[str, Any], names: list[str] | None = None) -> float:
    """How far two runs ended apart, relative to how far the first went: over all parameters, in the L2 norm."""

    def gap(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
        return sum(float((a[name] - b[name]).double().square().sum()) for name in names or a) ** 0.5

    return gap(one["weights"], other["weights"]) / gap(one["start"], one["weights"])
