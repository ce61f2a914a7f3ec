"""Schedules as pure functions of the images seen: nothing to save, nothing to restore.

Any number of a config that may change during a run is a `Schedule`, written as the number itself where it does not:

    lr: 5.0e-4
    lr: {kind: cosine, value: 5.0e-4, warmup_kimg: 10}
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeFloat,
    PositiveInt,
    SerializerFunctionWrapHandler,
    WrapSerializer,
    model_validator,
)

from bigtrain.core.config import Config


class _Schedule(Config, ABC):
    """A number that may change during a run, after an optional linear warm-up from zero.

    Attributes:
        value: the number at the start.
        warmup_kimg: thousands of images of the warm-up.
    """

    value: NonNegativeFloat
    warmup_kimg: NonNegativeFloat = 0.0

    def value_at(self, samples_seen: int, total: int) -> float:
        """Return the number at `samples_seen` of `total` images."""
        rise = min(samples_seen / (self.warmup_kimg * 1000), 1.0) if self.warmup_kimg else 1.0
        return rise * self._after_warmup(samples_seen / total)

    @abstractmethod
    def _after_warmup(self, share: float) -> float:
        """Return the number when `share` >= 0 of the run is over."""


class ConstantSchedule(_Schedule):
    """The same number throughout."""

    kind: Literal["constant"] = "constant"

    def _after_warmup(self, share: float) -> float:
        return self.value


class _Passage(_Schedule, ABC):
    """A number that moves from `value` to `final` between two points of the run.

    Attributes:
        final: the number at the end.
        start: share of the run after which the number begins to change.
        end: share of the run after which the number is `final`.
    """

    final: NonNegativeFloat = 0.0
    start: float = Field(default=0.0, ge=0, lt=1)
    end: float = Field(default=1.0, gt=0, le=1)

    @model_validator(mode="after")
    def _goes_forward(self) -> "_Passage":
        if self.start >= self.end:
            raise ValueError(f"start {self.start} must be below end {self.end}; both are shares of the run")
        return self

    def _after_warmup(self, share: float) -> float:
        done = min(max((share - self.start) / (self.end - self.start), 0.0), 1.0)
        return self.final + (self.value - self.final) * self._left(done)

    @abstractmethod
    def _left(self, done: float) -> float:
        """Return which share of the way is left when `done` of the time is over, both in [0, 1]."""


class LinearSchedule(_Passage):
    """A straight line from `value` to `final`."""

    kind: Literal["linear"] = "linear"

    def _left(self, done: float) -> float:
        return 1 - done


class CosineSchedule(_Passage):
    """Half a cosine from `value` to `final` (Loshchilov & Hutter 2017)."""

    kind: Literal["cosine"] = "cosine"

    def _left(self, done: float) -> float:
        return 0.5 * (1 + math.cos(math.pi * done))


def _from_number(data: Any) -> Any:
    if isinstance(data, int | float) and not isinstance(data, bool):
        return ConstantSchedule(value=float(data))
    if not isinstance(data, Mapping | _Schedule):
        raise ValueError(f"write a number, or a mapping with kind and value, not {data!r}")
    return data


def _to_number(schedule: _Schedule, write: SerializerFunctionWrapHandler) -> Any:
    return schedule.value if schedule == ConstantSchedule(value=schedule.value) else write(schedule)


Schedule = Annotated[
    ConstantSchedule | LinearSchedule | CosineSchedule,
    Field(discriminator="kind"),
    BeforeValidator(_from_number, json_schema_input_type=float | ConstantSchedule | LinearSchedule | CosineSchedule),
    WrapSerializer(_to_number),
]


class LrScaling(Config):
    """How a learning rate that was tuned for one batch size is adapted to another.

    Attributes:
        rule: `linear`, which suits SGD (Goyal et al. 2017), or `sqrt`, which suits Adam (Malladi et al. 2022).
        batch: global batch for which the learning rate was tuned.
    """

    rule: Literal["linear", "sqrt"]
    batch: PositiveInt

    def factor(self, global_batch: int) -> float:
        """Return what to multiply the learning rate by."""
        ratio = global_batch / self.batch
        return ratio if self.rule == "linear" else math.sqrt(ratio)
