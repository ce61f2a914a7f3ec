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
        """The given shares of the classes."""
        return Shares(self.weights, self.others)


class ShardsConfig(StreamConfig):
    """A stream of one dataset; its shards must have the config's resolution and channels.

    Attributes:
        kind: `shards`, the usual one.
        path: folder of shards, see `bigtrain data prepare`; or its URL, `http(s)://` or `s3://`.
        sampling: how often images come.
        max_images: train on a random subset of so many; a smaller one is part of a larger one; null for all.
        crop: what shards of larger images are cut to `resolution` and `width` by: `random` cuts anew each time an
            image is shown, `center` in the middle, as evaluation does in both cases; null for shards of just that size.
        window: shards that are shuffled together, in each lane.
        lanes: parts of an epoch that a batch is read from. With as many as nodes, or a multiple, each node reads its
            part of the shards instead of all; each lane keeps twice the window's shards at hand. Must divide
            `global_batch`. It is a part of the order: a run keeps it on any number of nodes.
        loader: threads start at once; processes leave the interpreter to the training.
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
