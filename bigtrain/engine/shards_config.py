"""Streams of shards that `bigtrain data prepare` made or indexed: exact and elastic."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveInt, field_validator

from bigtrain.core.config import Config
from bigtrain.engine.stream_config import Reading, Share, StreamConfig
from data_pipelines.batches import BatchPlan
from data_pipelines.sampling import Shares
from data_pipelines.secrets import refuse_secrets
from data_pipelines.stream import Loader


class ShuffleSampling(Config):
    """Every image once an epoch."""

    kind: Literal["shuffle"]

    @property
    def shares(self) -> Shares | None:
        """The shares of the classes; None for those of the dataset."""
        return None


class BalancedSampling(Config):
    """Every class as often as any other."""

    kind: Literal["balanced"]

    @property
    def shares(self) -> Shares | None:
        """Equal shares of all classes."""
        return Shares({})


class WeightedSampling(Config):
    """Sampling of the classes with given shares.

    Attributes:
        weights: shares of classes by name, in any unit; 0 excludes a class.
        others: share of every class that is not named.
    """

    kind: Literal["weighted"]
    weights: dict[str, NonNegativeFloat]
    others: NonNegativeFloat = 1.0

    @property
    def shares(self) -> Shares | None:
        """The given shares of the classes."""
        return Shares(self.weights, self.others)


class ShardsConfig(StreamConfig):
    """A stream of one dataset of shards; the shards must have the config's resolution and channels.

    Attributes:
        kind: `shards`, the default.
        path: folder of shards (see `bigtrain data prepare`), or its URL, `http(s)://` or `s3://`.
        sampling: how often samples are shown: `shuffle`, `balanced` or `weighted`.
        max_images: train on a random subset of this size; smaller subsets are contained in larger ones; null for all
            images.
        crop: how shards of larger images are cropped to `resolution` and `width`: `random` crops anew each time an
            image is shown, `center` takes the middle; evaluation takes the middle in both cases; null for shards of
            exactly that size.
        window: number of shards that are shuffled together, in each lane.
        lanes: number of parts of an epoch from which each batch is read. With as many lanes as nodes, or a multiple,
            each node reads only its part of the shards; each lane keeps twice the window's shards in the cache. Must
            divide `global_batch`. The order of the samples depends on it, so a run keeps its value on any number of
            nodes.
        loader: `threads` start immediately; `processes` do not share Python's interpreter lock with training.
    """

    kind: Literal["shards"] = "shards"
    path: str
    sampling: Annotated[ShuffleSampling | BalancedSampling | WeightedSampling, Field(discriminator="kind")] = (
        ShuffleSampling(kind="shuffle")
    )
    max_images: PositiveInt | None = None
    crop: Literal["center", "random"] | None = None
    window: PositiveInt = 8
    lanes: PositiveInt = 1
    loader: Loader = "threads"

    @field_validator("path")
    @classmethod
    def _holds_no_secret(cls, path: str) -> str:
        return refuse_secrets(path, "use ~/.netrc for http(s)://, $AWS_ACCESS_KEY_ID and its like for s3://")

    @property
    def place(self) -> str:
        """The folder or URL."""
        return self.path

    @property
    def reading(self) -> Reading:
        """How it is read."""
        return Reading(self.window, self.lanes, self.loader, self.workers, self.crop)

    def plan(self, share: Share) -> BatchPlan:
        """See StreamConfig."""
        return BatchPlan(
            **self.common(share),
            window=self.window,
            lanes=self.lanes,
            shares=self.sampling.shares,
            max_images=self.max_images,
        )
