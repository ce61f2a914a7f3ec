"""The config of a run: everything that it is made of, in one YAML file."""

from abc import ABC
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from bigtrain.checkpoint import CheckpointConfig
from bigtrain.core.config import Config, ConfigError, apply_overrides, nearest, parse_config, read_yaml
from bigtrain.core.former_names import with_optimizers_by_player
from bigtrain.core.registry import ConfigUnion
from bigtrain.distributed.watchdog import WatchdogConfig
from bigtrain.engine.data_config import AnyDataConfig
from bigtrain.engine.ema import EMAConfig
from bigtrain.engine.task import TaskConfig
from bigtrain.evaluation.evaluator import EvalConfig
from bigtrain.generate.init_from import InitFromConfig
from bigtrain.generate.writer import SnapshotConfig
from bigtrain.health.health import HealthConfig
from bigtrain.strategies import Capability, Demands, Precision, StrategyConfig
from bigtrain.tasks.synthesis import SynthesisConfig
from bigtrain.tasks.translation import TranslationConfig
from bigtrain.tasks.unpaired import UnpairedConfig
from bigtrain.tracking.tracker import TrackingConfig


class IntervalConfig(Config):
    """How often something happens, in thousands of images; 0 for never."""

    interval_kimg: NonNegativeFloat


class TrainingConfig(TaskConfig, ABC):
    """What every run has, whatever its task.

    Attributes:
        task: which task; see the classes below.
        run_dir: the run's folder; the same command on it resumes.
        seed: of everything random.
        total_kimg: thousands of real images to show the discriminator.
        micro_batch: images a rank computes at once; the rest is accumulated. `auto` finds the largest number that fits,
            before training, and the run folder remembers it.
        memory_gib: memory that `auto` may fill on each rank; null for most of what is free.
        strategy: of all players, or one for each.
        precision: `bf16` computes products and convolutions in bfloat16; `pure_bf16` keeps weights in it too, beside
            float32 masters; `fp16` scales losses, and needs a GPU.
        tf32: let a GPU round the operands of float32 products and convolutions to 10 bits, which is faster.
        deterministic: let GPUs use only algorithms whose bits repeat, so that a run's bits follow from its config,
            the GPU and the libraries, as they do on a CPU in any case; slower: `bigtrain plan` tells what is known of
            its cost. An operator without such an algorithm, of a package's network for example, ends the run at its
            first step with PyTorch's words, and is named by the plan.
        init_from: networks to start from; null for random weights.
        activation_checkpointing: compute the activations inside of a network's stages again in the backward pass: less
            memory, about a third more computation.
        profile: take the time of the run's parts; its folder gets a folder `profile` with a timeline and the operators
            of a few steps as Chrome traces, and a table.
    """

    task: str
    run_dir: str
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    total_kimg: PositiveFloat
    micro_batch: PositiveInt | Literal["auto"]
    memory_gib: PositiveFloat | None = None
    precision: Precision = "fp32"
    tf32: bool = False
    deterministic: bool = False
    data: AnyDataConfig
    strategy: StrategyConfig
    ema: EMAConfig
    log: IntervalConfig
    preview: IntervalConfig
    eval: EvalConfig
    checkpoint: CheckpointConfig
    snapshot: SnapshotConfig
    health: HealthConfig = HealthConfig()
    watchdog: WatchdogConfig = WatchdogConfig()
    tracking: TrackingConfig = TrackingConfig()
    init_from: InitFromConfig | None = None
    activation_checkpointing: bool = False
    profile: bool = False

    @model_validator(mode="after")
    def _batches_fit(self) -> "TrainingConfig":
        if self.micro_batch != "auto" and self.global_batch % self.micro_batch:
            raise ValueError(f"global_batch {self.global_batch} is not a multiple of micro_batch {self.micro_batch}")
        for name, stream in self.data.streams.items():
            if self.global_batch % stream.reading.lanes:
                key = f"data.streams.{name}.lanes" if name else "data.lanes"
                raise ValueError(f"global_batch {self.global_batch} is not a multiple of {key} {stream.reading.lanes}")
        return self

    @property
    def micro_batch_size(self) -> int:
        """The micro-batch, after `auto` has become a number."""
        assert self.micro_batch != "auto"
        return self.micro_batch

    @property
    def features_kimg(self) -> float:
        """Thousands of images between two looks at features of fakes."""
        own = self.health.features_kimg
        return self.eval.interval_kimg if own is None else own

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return Path(self.run_dir)

    def requirements(self) -> Demands:
        """Return what each player's strategy must be able to do, and the key that asks it."""
        switches: dict[Capability, str] = {}
        if self.precision in ("pure_bf16", "fp16"):
            switches[self.precision] = "precision"
        return {player: {**asked, **switches} for player, asked in self.demands().items()}

    def accumulation(self, world_size: int) -> int:
        """Return the number of micro-batches a rank and step.

        Raises:
            ConfigError: the batch does not divide over so many ranks.
        """
        together = self.micro_batch_size * world_size
        if self.global_batch % together:
            micro_batches = self.global_batch // self.micro_batch_size
            ranks = [count for count in range(1, micro_batches + 1) if micro_batches % count == 0]
            share, rest = divmod(self.global_batch, world_size)
            sizes = [size for size in range(1, self.micro_batch_size) if not rest and share and share % size == 0]
            way_out = f"micro_batch={sizes[-1]}" if sizes else f"a global_batch that is a multiple of {together}"
            raise ConfigError(
                f"global_batch {self.global_batch} has {micro_batches} micro-batches of {self.micro_batch}; they do "
                f"not divide over {world_size} ranks: use {' or '.join(map(str, ranks))} ranks, or {way_out}"
            )
        return self.global_batch // together


class SynthesisTraining(SynthesisConfig, TrainingConfig):
    """A run of the synthesis task."""

    task: Literal["synthesis"]


class TranslationTraining(TranslationConfig, TrainingConfig):
    """A run of the translation task."""

    task: Literal["translation"]


class UnpairedTraining(UnpairedConfig, TrainingConfig):
    """A run of the unpaired task."""

    task: Literal["unpaired"]


TRAININGS: ConfigUnion[TrainingConfig] = ConfigUnion("bigtrain.tasks", TrainingConfig, key="task")
"""Every kind of run by the name of its task; other packages add theirs by entry points of the group."""

TRAININGS.add_classes(SynthesisTraining, TranslationTraining, UnpairedTraining)


def load_training(path: str | Path, overrides: Sequence[str] = ()) -> TrainingConfig:
    """Read a run's config from a YAML file; see `core.config.load_config` for overrides and errors."""
    return parse_training(apply_overrides(read_yaml(path), overrides), source=str(path))


def parse_training(data: Mapping[str, Any], *, source: str) -> TrainingConfig:
    """Validate a run's config, whose `task` says which class it has; `source` names it in errors.

    Raises:
        ConfigError: there is no such task, or the config does not fit it.
    """
    if "task" not in data:
        raise ConfigError(f"{source}: missing key 'task'" + nearest("", sorted(TRAININGS)))
    if data["task"] not in TRAININGS:
        raise ConfigError(f"{source}: unknown task '{data['task']}'" + nearest(str(data["task"]), sorted(TRAININGS)))
    return parse_config(TRAININGS[data["task"]], with_optimizers_by_player(data), source=source)


def training_schema() -> dict[str, Any]:
    """Return the JSON schema of every kind of run."""
    return TRAININGS.adapter.json_schema()
