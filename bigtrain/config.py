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
from bigtrain.tasks.stylisation import StylisationConfig
from bigtrain.tasks.synthesis import SynthesisConfig
from bigtrain.tasks.translation import TranslationConfig
from bigtrain.tasks.unpaired import UnpairedConfig
from bigtrain.tracking.tracker import TrackingConfig


class IntervalConfig(Config):
    """How often something happens.

    Attributes:
        interval_kimg: thousands of images between two times; 0 for never.
    """

    interval_kimg: NonNegativeFloat


class TrainingConfig(TaskConfig, ABC):
    """Settings that every run has, whatever its task is.

    Attributes:
        task: what is trained; see the classes below.
        run_dir: the run folder; the same command on an existing folder resumes the run.
        seed: seed of all random numbers.
        total_kimg: length of the run in thousands of real images shown to the discriminator.
        micro_batch: number of samples that a rank processes at once; gradients are accumulated over micro-batches.
            `auto` finds the largest number that fits before training, and stores it in the run folder.
        memory_gib: memory that `auto` may use on each rank; null for most of the free memory.
        strategy: distributed strategy of all players, or one for each player.
        precision: `bf16` computes matrix products and convolutions in bfloat16; `pure_bf16` also stores the weights in
            bfloat16, with float32 master weights; `fp16` scales the losses, and needs a GPU.
        tf32: whether a GPU may round the operands of float32 matrix products and convolutions to 10 bits, which is
            faster.
        deterministic: whether GPUs use only deterministic algorithms, so that the bits of a run depend only on its
            config, the GPU and the libraries, as they always do on a CPU. This is slower; `bigtrain plan` states what
            is known of its cost. An operator without such an algorithm, for example in the network of a plug-in, ends
            the run at its first step with PyTorch's message, and is named by the plan.
        data: the training samples.
        ema: the moving average of the weights.
        log: how often metrics are logged.
        preview: how often sample pictures are made.
        eval: the scores, and how often they are computed.
        checkpoint: how often the state is saved, and which checkpoints are kept.
        snapshot: how often weights for use are written.
        health: the monitors of training.
        watchdog: when a run is considered hung.
        tracking: where reports are sent besides the run folder.
        init_from: networks to start from; null for random weights.
        activation_checkpointing: whether the activations inside a network's stages are recomputed in the backward pass,
            which needs less memory and about a third more computation.
        profile: whether to measure the duration of the run's parts; the run folder gets a folder `profile` with a
            timeline, the operators of a few steps as Chrome traces, and a table.
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


class StylisationTraining(StylisationConfig, TrainingConfig):
    """A run of the stylisation task."""

    task: Literal["stylisation"]


TRAININGS: ConfigUnion[TrainingConfig] = ConfigUnion("bigtrain.tasks", TrainingConfig, key="task")
"""Every kind of run by the name of its task; other packages add theirs by entry points of the group."""

TRAININGS.add_classes(SynthesisTraining, TranslationTraining, UnpairedTraining, StylisationTraining)


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
