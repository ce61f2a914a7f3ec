"""The config of a run: everything that it is made of, in one YAML file."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from bigtrain.checkpoint import CheckpointConfig
from bigtrain.core.config import Config, ConfigError
from bigtrain.distributed.strategies import Precision, StrategyConfig
from bigtrain.ema import EMAConfig
from bigtrain.evaluation.evaluator import EvalConfig
from bigtrain.models import ImageSpec
from bigtrain.tasks.synthesis import SynthesisConfig
from bigtrain.tracking.tracker import TrackingConfig


class DataConfig(Config):
    """The training images.

    Attributes:
        path: folder of shards, see `bigtrain data prepare`.
        resolution: of the images; the shards must have it.
        channels: 1 or 3; likewise.
        classes: how many, for a conditional network; 0 ignores the labels.
        window: shards that are shuffled together.
        workers: threads a rank that read and decode.
    """

    path: str
    resolution: PositiveInt
    channels: Literal[1, 3] = 3
    classes: Annotated[int, Field(ge=0)] = 0
    window: PositiveInt = 8
    workers: PositiveInt = 1

    @property
    def image(self) -> ImageSpec:
        """What the networks are built for."""
        return ImageSpec(self.resolution, self.channels, self.classes)


class IntervalConfig(Config):
    """How often something happens, in thousands of images; 0 for never."""

    interval_kimg: NonNegativeFloat


class TrainingConfig(Config):
    """What every run has, whatever its task.

    Attributes:
        run_dir: the run's folder; the same command on it resumes.
        seed: of everything random.
        total_kimg: thousands of real images to show the discriminator.
        global_batch: images of a step over all ranks.
        micro_batch: images a rank computes at once; the rest is accumulated.
        precision: `bf16` computes products and convolutions in bfloat16; weights stay float32.
    """

    run_dir: str
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    total_kimg: PositiveFloat
    global_batch: PositiveInt
    micro_batch: PositiveInt
    precision: Precision = "fp32"
    data: DataConfig
    strategy: StrategyConfig
    ema: EMAConfig
    log: IntervalConfig
    preview: IntervalConfig
    eval: EvalConfig
    checkpoint: CheckpointConfig
    snapshot: IntervalConfig
    tracking: TrackingConfig = TrackingConfig()

    @model_validator(mode="after")
    def _batches_fit(self) -> "TrainingConfig":
        if self.global_batch % self.micro_batch:
            raise ValueError(f"global_batch {self.global_batch} is not a multiple of micro_batch {self.micro_batch}")
        return self

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return Path(self.run_dir)

    def accumulation(self, world_size: int) -> int:
        """Return the number of micro-batches a rank and step.

        Raises:
            ConfigError: the batch does not divide over so many ranks.
        """
        together = self.micro_batch * world_size
        if self.global_batch % together:
            micro_batches = self.global_batch // self.micro_batch
            ranks = [count for count in range(1, micro_batches + 1) if micro_batches % count == 0]
            raise ConfigError(
                f"global_batch {self.global_batch} has {micro_batches} micro-batches of {self.micro_batch}; they do "
                f"not divide over {world_size} ranks: use {' or '.join(map(str, ranks))} ranks, or another micro_batch"
            )
        return self.global_batch // together


class SynthesisTraining(TrainingConfig, SynthesisConfig):
    """A run of the synthesis task."""

    task: Literal["synthesis"]


AnyTraining = SynthesisTraining
"""Every kind of run: a new task is one more class in this union, told apart by `task`."""
