"""The metric of a sweep: a score of the averaged weights, with its standard error."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from bigtrain.config import TrainingConfig
from bigtrain.core.config import Config, ConfigError
from bigtrain.evaluation.noise import is_better


class MetricConfig(Config):
    """The metric by which trials are compared.

    Attributes:
        name: one of the values of `eval.metrics` and `eval.pairs`, such as `fid`, `psnr`, or `fid/A.image`.
        evaluation: `progress`, the one that comes often; or `full`, that of `eval.full`.
    """

    name: str = "fid"
    evaluation: Literal["progress", "full"] = "progress"

    def check(self, base: TrainingConfig) -> None:
        """Check that the base config computes the metric.

        Raises:
            ConfigError: the base config does not compute it, or never evaluates.
        """
        config = base.eval.full if self.evaluation == "full" else base.eval
        if config is None:
            raise ConfigError("metric.evaluation 'full': the base config has no eval.full")
        sampler = base.build_sampler(base.data.field_specs(), {})
        config.check_value("metric.name", self.name, list(sampler.outputs))
        if not config.interval_kimg:
            raise ConfigError(f"metric.name '{self.name}': eval.interval_kimg is 0, the base config never evaluates")

    def samples(self, base: TrainingConfig) -> int:
        """Return the number of generated images of its scores, which tells them from those of the other evaluation."""
        config = base.eval.full if self.evaluation == "full" else base.eval
        assert config is not None
        return config.samples


@dataclass(frozen=True)
class TrialScore:
    """A score of a trial.

    Attributes:
        samples_seen: images that the trial had been trained on.
        value: value of the metric.
        error: its standard error; 0 if it is not known.
        img_per_s: speed of the trial up to this score, in images per second; 0 if it is not known.
    """

    samples_seen: int
    value: float
    error: float = 0.0
    img_per_s: float = 0.0

    @property
    def kimg(self) -> float:
        """Thousands of images that the trial had been trained on."""
        return self.samples_seen / 1000


@dataclass(frozen=True)
class Direction:
    """Whether a metric is minimised or maximised.

    Attributes:
        maximize: whether higher values are better.
    """

    maximize: bool = False

    def beats(self, one: TrialScore, other: TrialScore) -> bool:
        """Return whether `one` is better than `other` by more than the noise of both; NaN and infinity beat nothing."""
        if not math.isfinite(one.value):
            return False
        if not math.isfinite(other.value):
            return True
        return is_better(one.value, one.error, other.value, other.error, higher=self.maximize)

    def key(self, score: TrialScore) -> float:
        """Return a sorting key: the best score has the lowest one, NaN and infinity the highest."""
        if not math.isfinite(score.value):
            return math.inf
        return -score.value if self.maximize else score.value


def mean_score(scores: Sequence[TrialScore]) -> TrialScore:
    """Average scores of one trial, or of several seeds.

    The error is the standard error of the mean: the larger one of what follows from the scores' own errors and from the
    spread of their values.
    """
    count = len(scores)
    value = sum(one.value for one in scores) / count
    own = math.sqrt(sum(one.error**2 for one in scores)) / count
    spread = math.sqrt(sum((one.value - value) ** 2 for one in scores) / (count - 1) / count) if count > 1 else 0.0
    speed = sum(one.img_per_s for one in scores) / count
    return TrialScore(max(one.samples_seen for one in scores), value, max(own, spread), speed)
