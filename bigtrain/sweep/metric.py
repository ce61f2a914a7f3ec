"""What trials are judged by: a score of the averaged weights, and how far chance moves it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from bigtrain.config import TrainingConfig
from bigtrain.core.config import Config, ConfigError, nearest
from bigtrain.evaluation.metrics import METRICS
from bigtrain.evaluation.noise import is_better


class MetricConfig(Config):
    """The score that decides.

    Attributes:
        name: one of the values of `eval.metrics`, such as `fid` or `kid`.
        evaluation: `progress`, the one that comes often; or `full`, that of `eval.full`.
    """

    name: str = "fid"
    evaluation: Literal["progress", "full"] = "progress"

    def check(self, base: TrainingConfig) -> None:
        """See that the base config computes it.

        Raises:
            ConfigError: it does not.
        """
        config = base.eval.full if self.evaluation == "full" else base.eval
        if config is None:
            raise ConfigError("metric.evaluation 'full': the base config has no eval.full")
        names = [value for metric in config.metrics for value in METRICS[metric].values or (metric,)]
        if self.name not in names:
            raise ConfigError(
                f"metric.name '{self.name}': the base config does not compute it{nearest(self.name, names)}"
            )
        if not config.interval_kimg:
            raise ConfigError(f"metric.name '{self.name}': eval.interval_kimg is 0, the base config never evaluates")

    def samples(self, base: TrainingConfig) -> int:
        """Return how many generated images tell its scores from those of the other evaluation."""
        config = base.eval.full if self.evaluation == "full" else base.eval
        assert config is not None
        return config.samples


@dataclass(frozen=True)
class Scored:
    """A trial's score at a place of its run.

    Attributes:
        samples_seen: the place.
        value: of the score.
        error: its standard error; 0 where it is not known.
        img_per_s: the trial's speed up to here; 0 where it is not known.
    """

    samples_seen: int
    value: float
    error: float = 0.0
    img_per_s: float = 0.0

    @property
    def kimg(self) -> float:
        """The place in thousands of images."""
        return self.samples_seen / 1000


@dataclass(frozen=True)
class Order:
    """Which of two scores is better.

    Attributes:
        higher: whether more is better.
    """

    higher: bool = False

    def beats(self, one: Scored, other: Scored) -> bool:
        """Tell whether one is better by more than the noise of both; what is not a number is worse than any."""
        if not math.isfinite(one.value):
            return False
        if not math.isfinite(other.value):
            return True
        return is_better(one.value, one.error, other.value, other.error, higher=self.higher)

    def key(self, scored: Scored) -> float:
        """Return a number by which the best comes first."""
        if not math.isfinite(scored.value):
            return math.inf
        return -scored.value if self.higher else scored.value


def mean_of(scores: Sequence[Scored]) -> Scored:
    """Average scores of one trial, or of several seeds.

    The error is that of the mean: from the scores' own errors, or from how far the scores lie apart, whichever is more.
    """
    count = len(scores)
    value = sum(one.value for one in scores) / count
    own = math.sqrt(sum(one.error**2 for one in scores)) / count
    spread = math.sqrt(sum((one.value - value) ** 2 for one in scores) / (count - 1) / count) if count > 1 else 0.0
    speed = sum(one.img_per_s for one in scores) / count
    return Scored(max(one.samples_seen for one in scores), value, max(own, spread), speed)
