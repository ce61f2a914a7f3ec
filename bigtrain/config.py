"""The config of a run: everything that it is made of, in one YAML file."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, field_validator, model_validator

from bigtrain.checkpoint import CheckpointConfig
from bigtrain.core.config import Config, ConfigError
from bigtrain.distributed.watchdog import WatchdogConfig
from bigtrain.engine.ema import EMAConfig
from bigtrain.evaluation.evaluator import EvalConfig
from bigtrain.generate.init_from import InitFromConfig
from bigtrain.health.health import HealthConfig
from bigtrain.models import ImageSpec
from bigtrain.strategies import Precision, StrategyConfig
from bigtrain.tasks.synthesis import SynthesisConfig
from bigtrain.tracking.tracker import TrackingConfig
from data_pipelines.batches import BatchPlan, CachePlan, OnCorrupt
from data_pipelines.sampling import Shares
from data_pipelines.secrets import refuse_secrets
from data_pipelines.stream import Loader


class ShuffleSampling(Config):
    """Every image once an epoch."""

    kind: Literal["shuffle"]

    @property
    def shares(self) -> Shares | None:
        """Those that the data have."""
        return None


class BalancedSampling(Config):
    """Every class as often as any other."""

    kind: Literal["balanced"]

    @property
    def shares(self) -> Shares | None:
        """Equal ones."""
        return Shares({})


class WeightedSampling(Config):
    """Classes in given shares.

    Attributes:
        weights: of classes, by name, in any unit; 0 leaves a class out.
        others: weight of every class that is not named.
    """

    kind: Literal["weighted"]
    weights: dict[str, NonNegativeFloat]
    others: NonNegativeFloat = 1.0

    @property
    def shares(self) -> Shares | None:
        """As given."""
        return Shares(self.weights, self.others)


class CacheConfig(Config):
    """Where shards that lie elsewhere are kept on this machine.

    Attributes:
        folder: null for `shards` in $BIGTRAIN_CACHE or ~/.cache/bigtrain.
        max_bytes: what they may take together; it must hold twice the window's shards.
    """

    folder: str | None = None
    max_bytes: PositiveInt = 100 * 2**30


class DataConfig(Config):
    """The training images.

    Attributes:
        path: folder of shards, see `bigtrain data prepare`; or its URL, `http(s)://` or `s3://`.
        resolution: of the images; the shards must have it.
        width: of images that are not square, whose height is `resolution`; null for square ones.
        channels: 1 (grey), 2 (grey and alpha), 3 (RGB) or 4 (RGB and alpha); the shards must have them.
        classes: how many, for a conditional network; 0 ignores the labels.
        sampling: how often images come.
        max_images: train on a random subset of so many; a smaller one is part of a larger one; null for all.
        label_dropout: share of the images that are shown without their label.
        crop: what shards of larger images are cut to `resolution` and `width` by: `random` cuts anew each time an
            image is shown, `center` in the middle, as evaluation does in both cases; null for shards of just that size.
        flip: mirror half of the images, left to right.
        window: shards that are shuffled together.
        loader: threads start at once; processes leave the interpreter to the training.
        workers: threads or processes a rank that read and decode.
        on_corrupt: `replace` shows another image in the place of a damaged one, and reports it; `fail` ends the run.
        cache: for a path that is a URL, and for shards that lie elsewhere.
    """

    path: str
    resolution: PositiveInt
    width: PositiveInt | None = None
    channels: Annotated[int, Field(ge=1, le=4)] = 3
    classes: Annotated[int, Field(ge=0)] = 0
    sampling: Annotated[ShuffleSampling | BalancedSampling | WeightedSampling, Field(discriminator="kind")] = (
        ShuffleSampling(kind="shuffle")
    )
    max_images: PositiveInt | None = None
    label_dropout: Annotated[float, Field(ge=0, le=1)] = 0.0
    crop: Literal["center", "random"] | None = None
    flip: bool = False
    window: PositiveInt = 8
    loader: Loader = "threads"
    workers: PositiveInt = 1
    on_corrupt: OnCorrupt = "replace"
    cache: CacheConfig = CacheConfig()

    @field_validator("path")
    @classmethod
    def _holds_no_secret(cls, path: str) -> str:
        return refuse_secrets(path, "use ~/.netrc for http(s)://, $AWS_ACCESS_KEY_ID and its like for s3://")

    @property
    def image(self) -> ImageSpec:
        """What the networks are built for."""
        return ImageSpec(self.resolution, self.channels, self.classes, self.width)

    def plan(
        self, *, seed: int, global_batch: int, held_out: float, rank: int = 0, world_size: int = 1, pieces: int = 1
    ) -> BatchPlan:
        """Return what is in a rank's batches, each cut into so many micro-batches."""
        return BatchPlan(
            place=self.path,
            seed=seed,
            global_batch=global_batch,
            rank=rank,
            world_size=world_size,
            pieces=pieces,
            window=self.window,
            shares=self.sampling.shares,
            max_images=self.max_images,
            held_out=held_out,
            on_corrupt=self.on_corrupt,
            cache=CachePlan(self.cache.folder or "", self.cache.max_bytes),
        )


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
        micro_batch: images a rank computes at once; the rest is accumulated. `auto` finds the largest number that fits,
            before training, and the run folder remembers it.
        memory_gib: memory that `auto` may fill on each rank; null for most of what is free.
        strategy: of all players, or one for each.
        precision: `bf16` computes products and convolutions in bfloat16; `pure_bf16` keeps weights in it too, beside
            float32 masters; `fp16` scales losses, and needs a GPU.
        tf32: let a GPU round the operands of float32 products and convolutions to 10 bits, which is faster.
        init_from: networks to start from; null for random weights.
        activation_checkpointing: compute the activations inside of a network's stages again in the backward pass: less
            memory, about a third more computation.
        profile: take the time of the run's parts; its folder gets a folder `profile` with a timeline and the operators
            of a few steps as Chrome traces, and a table.
    """

    run_dir: str
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    total_kimg: PositiveFloat
    global_batch: PositiveInt
    micro_batch: PositiveInt | Literal["auto"]
    memory_gib: PositiveFloat | None = None
    precision: Precision = "fp32"
    tf32: bool = False
    data: DataConfig
    strategy: StrategyConfig
    ema: EMAConfig
    log: IntervalConfig
    preview: IntervalConfig
    eval: EvalConfig
    checkpoint: CheckpointConfig
    snapshot: IntervalConfig
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
        return self

    @property
    def images_at_once(self) -> int:
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

    def accumulation(self, world_size: int) -> int:
        """Return the number of micro-batches a rank and step.

        Raises:
            ConfigError: the batch does not divide over so many ranks.
        """
        together = self.images_at_once * world_size
        if self.global_batch % together:
            micro_batches = self.global_batch // self.images_at_once
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
