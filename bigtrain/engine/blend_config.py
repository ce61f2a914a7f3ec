"""Streams of several datasets in shares that may change during a run: exact and elastic, as one dataset is."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, field_validator, model_validator

from bigtrain.core.config import Config
from bigtrain.core.schedules import ConstantSchedule, Schedule
from bigtrain.engine.stream_config import NAME, Reading, Share, StreamConfig
from data_pipelines.blend import BlendPlan, Weight
from data_pipelines.secrets import refuse_secrets
from data_pipelines.stream import Loader

_POINTS = 1024
"""Of a schedule, between which a weight is a straight line."""


class PartConfig(Config):
    """One dataset of a blend.

    Attributes:
        path: folder of shards, or its URL.
        weight: share of the samples, in any unit; may be a schedule.
    """

    path: str
    weight: Schedule = ConstantSchedule(value=1.0)

    @field_validator("path")
    @classmethod
    def _holds_no_secret(cls, path: str) -> str:
        return refuse_secrets(path, "use ~/.netrc for http(s)://, $AWS_ACCESS_KEY_ID and its like for s3://")


class BlendConfig(StreamConfig):
    """A stream of several datasets, which have the same fields, size and classes.

    Previews, scores and health monitors look at all samples of all datasets, whatever the weights.

    Attributes:
        kind: `blend`.
        parts: datasets by name; the order of the samples of a dataset depends on its name.
        window: number of shards of each dataset that are shuffled together.
        loader: `threads` start immediately; `processes` do not share Python's interpreter lock with training.
    """

    kind: Literal["blend"]
    parts: dict[Annotated[str, Field(pattern=NAME)], PartConfig]
    window: PositiveInt = 8
    loader: Loader = "threads"

    @model_validator(mode="after")
    def _always_has_a_share(self) -> "BlendConfig":
        if len(self.parts) < 2:
            raise ValueError("parts: list two datasets or more")
        for place in range(1, _POINTS):
            if not sum(part.weight.value_at(place, _POINTS) for part in self.parts.values()) > 0:
                raise ValueError("parts: at some point of the run, all weights are 0; at least one must be above 0")
        return self

    @property
    def paths(self) -> tuple[str, ...]:
        """The folders and URLs."""
        return tuple(part.path for part in self.parts.values())

    @property
    def place(self) -> str:
        """The folders and URLs in one line."""
        return "+".join(self.paths)

    @property
    def reading(self) -> Reading:
        """How it is read."""
        return Reading(window=self.window, loader=self.loader, workers=self.workers)

    def plan(self, share: Share) -> BlendPlan:
        """See StreamConfig."""
        return BlendPlan(
            **self.common(share),
            window=self.window,
            places={name: part.path for name, part in self.parts.items()},
            weights={name: _weight(part, share.total) for name, part in self.parts.items()},
        )


def _weight(part: PartConfig, total: int) -> Weight:
    """Return a part's weight over a run of `total` samples."""
    constant = isinstance(part.weight, ConstantSchedule) and not part.weight.warmup_kimg
    positions = [0] if constant else [round(total * number / (_POINTS - 1)) for number in range(_POINTS)]
    return Weight(tuple(map(float, positions)), tuple(part.weight.value_at(place, total) for place in positions))
