"""Schedules as pure functions of the images seen: nothing to save, nothing to restore."""

import math
from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat

from bigtrain.core.config import Config


class ConstantSchedule(Config):
    """Full speed throughout, after an optional linear warm-up."""

    kind: Literal["constant"] = "constant"
    warmup_kimg: NonNegativeFloat = 0.0

    def factor(self, samples_seen: int, total: int) -> float:
        """Return the multiplier in [0, 1] at `samples_seen` of `total` images."""
        return _warmup(samples_seen, self.warmup_kimg)


class LinearSchedule(Config):
    """Full speed until `start` of the run, then a straight line down to `final` at its end."""

    kind: Literal["linear"] = "linear"
    warmup_kimg: NonNegativeFloat = 0.0
    start: float = Field(default=0.5, ge=0, lt=1)
    final: NonNegativeFloat = 0.0

    def factor(self, samples_seen: int, total: int) -> float:
        """Return the multiplier in [0, 1] at `samples_seen` of `total` images."""
        down = min(max((samples_seen / total - self.start) / (1 - self.start), 0.0), 1.0)
        return _warmup(samples_seen, self.warmup_kimg) * (1 + down * (self.final - 1))


class CosineSchedule(Config):
    """Half a cosine from full speed at the start to `final` at the end of the run (Loshchilov & Hutter 2017)."""

    kind: Literal["cosine"] = "cosine"
    warmup_kimg: NonNegativeFloat = 0.0
    final: NonNegativeFloat = 0.0

    def factor(self, samples_seen: int, total: int) -> float:
        """Return the multiplier in [0, 1] at `samples_seen` of `total` images."""
        wave = 0.5 * (1 + math.cos(math.pi * min(samples_seen / total, 1.0)))
        return _warmup(samples_seen, self.warmup_kimg) * (self.final + (1 - self.final) * wave)


Schedule = Annotated[ConstantSchedule | LinearSchedule | CosineSchedule, Field(discriminator="kind")]


class OptimizerConfig(Config):
    """Adam (Kingma & Ba 2015) for one player.

    Attributes:
        lr: peak learning rate.
        betas: decay of the first and second moment.
        eps: added to the denominator.
        schedule: multiplies `lr` as the run goes on.
    """

    lr: PositiveFloat
    betas: tuple[float, float] = (0.0, 0.99)
    eps: PositiveFloat = 1e-8
    schedule: Schedule = ConstantSchedule()

    def lr_at(self, samples_seen: int, total: int) -> float:
        """Return the learning rate at `samples_seen` of `total` images."""
        return self.lr * self.schedule.factor(samples_seen, total)


def _warmup(samples_seen: int, warmup_kimg: float) -> float:
    return min(samples_seen / (warmup_kimg * 1000), 1.0) if warmup_kimg else 1.0
