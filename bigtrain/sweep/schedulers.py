"""What may be the scheduler of a sweep: nothing, a rule of Ray Tune that stops trials, or our PBT."""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from bigtrain.sweep.event_log import Trial
from bigtrain.sweep.metric import Direction, TrialScore, mean_score
from bigtrain.sweep.ray_rules import ASHA, MedianStopping, RayRule
from bigtrain.sweep.rule import Rule, Trials


class NoScheduler(Rule):
    """No trial is stopped early."""

    kind: Literal["none"] = "none"

    def reason_to_stop(
        self, trial: Trial, score: TrialScore, trials: Trials, direction: Direction, total_kimg: float
    ) -> str | None:
        """See the base."""
        return None


class PBT(Rule):
    """Population-based training (Jaderberg et al. 2017).

    All trials run to each boundary. Then each trial of the lowest quantile that is worse than one of the highest, by
    more than the noise, continues from the checkpoint of that trial (exploit) with perturbed hyperparameters (explore).
    Hyperparameters that change the networks cannot vary.

    Attributes:
        interval_kimg: thousands of images between two boundaries, a multiple of the interval of evaluations.
        quantile: share of the population that is replaced, and share from which is copied.
        resample: probability that a value is drawn anew; otherwise it is multiplied by one of `factors`.
        factors: factors of the perturbation.
        evaluations: number of newest scores between two boundaries that are averaged.
    """

    kind: Literal["pbt"]
    interval_kimg: PositiveFloat
    quantile: Annotated[float, Field(gt=0, le=0.5)] = 0.25
    resample: Annotated[float, Field(ge=0, le=1)] = 0.25
    factors: tuple[PositiveFloat, ...] = (0.8, 1.25)
    evaluations: PositiveInt = 3

    @model_validator(mode="after")
    def _has_factors(self) -> "PBT":
        if not self.factors:
            raise ValueError("factors: at least one, such as [0.8, 1.25]")
        return self

    def reason_to_stop(
        self, trial: Trial, score: TrialScore, trials: Trials, direction: Direction, total_kimg: float
    ) -> str | None:
        """See the base: no trial is stopped."""
        return None

    def boundaries(self, total_kimg: float) -> list[int]:
        """Return after how many images trials wait for each other; the end of training is not one of the boundaries."""
        count = int(total_kimg / self.interval_kimg)
        places = [round(1000 * self.interval_kimg * number) for number in range(1, count + 1)]
        return [place for place in places if place < 1000 * total_kimg]

    def stretch_score(self, trial: Trial, after: int, at: int) -> TrialScore:
        """Return a trial's average score between two boundaries; NaN if it was not evaluated there."""
        own = [trial.scores[place] for place in sorted(trial.scores) if after < place]
        own = [one for one in own if one.samples_seen <= at + (at - after) // 2]
        return mean_score(own[-self.evaluations :]) if own else TrialScore(at, math.nan)

    def exploits(
        self, scores: Mapping[int, TrialScore], direction: Direction, draws: Sequence[float]
    ) -> dict[int, int]:
        """Return which trials are replaced, each with the trial from which it copies.

        Args:
            scores: score of each trial, by number.
            direction: whether the metric is minimised or maximised.
            draws: random numbers in [0, 1), one for each trial of the lowest quantile.
        """
        ranked = sorted(scores, key=lambda number: direction.key(scores[number]))
        count = max(int(len(ranked) * self.quantile), 1)
        moves = {}
        for loser, share in zip(ranked[-count:], draws, strict=False):
            donor = ranked[:count][int(share * count)]
            if direction.beats(scores[donor], scores[loser]):
                moves[loser] = donor
        return moves


AnyScheduler = Annotated[NoScheduler | ASHA | MedianStopping | RayRule | PBT, Field(discriminator="kind")]
