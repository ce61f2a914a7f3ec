"""Who goes on: schedulers of trials. A difference within the noise of two scores stops nobody."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from bigtrain.core.config import Config
from bigtrain.sweep.journal import Trial
from bigtrain.sweep.metric import Order, Scored, mean_of

Trials = Mapping[int, Trial]


class _Scheduler(Config, ABC):
    kind: str

    @abstractmethod
    def objection(self, trial: Trial, scored: Scored, trials: Trials, order: Order) -> str | None:
        """Say why a trial is to stop at a new score, if it is.

        Args:
            trial: whose score it is.
            scored: the newest of its scores, and already among them.
            trials: all trials of the search, by number.
            order: which score is better.
        """


class NoScheduler(_Scheduler):
    """Every trial runs to its end."""

    kind: Literal["none"] = "none"

    def objection(self, trial: Trial, scored: Scored, trials: Trials, order: Order) -> str | None:
        """See the base."""
        return None


class ASHA(_Scheduler):
    """Asynchronous successive halving (Li et al. 2020) on images seen.

    At rungs `grace_kimg`, `grace_kimg · reduction`, … one in `reduction` of the trials that have come so far goes on,
    and besides every trial that is not worse than these by more than the noise.

    Attributes:
        grace_kimg: thousands of images that every trial may see.
        reduction: see above.
    """

    kind: Literal["asha"]
    grace_kimg: PositiveFloat
    reduction: Annotated[float, Field(gt=1)] = 3.0

    def objection(self, trial: Trial, scored: Scored, trials: Trials, order: Order) -> str | None:
        """See the base."""
        before = max((place for place in trial.scores if place < scored.samples_seen), default=0)
        rung = 1000 * self.grace_kimg
        while rung <= scored.samples_seen:
            if rung > before:
                rivals = [at for other in trials.values() if (at := other.first_from(round(rung))) is not None]
                places = max(int(len(rivals) / self.reduction), 1)
                better = sum(order.beats(rival, scored) for rival in rivals)
                if better >= places:
                    return f"{better} of {len(rivals)} trials are better at {rung / 1000:g} kimg, {places} may go on"
            rung *= self.reduction
        return None


class MedianStopping(_Scheduler):
    """Stop what is worse than the median of the others' averages so far (Golovin et al. 2017, section 3.2).

    Attributes:
        grace_kimg: thousands of images that every trial may see.
        least: other trials that must have come so far.
    """

    kind: Literal["median"]
    grace_kimg: PositiveFloat
    least: PositiveInt = 3

    def objection(self, trial: Trial, scored: Scored, trials: Trials, order: Order) -> str | None:
        """See the base."""
        if scored.kimg < self.grace_kimg:
            return None
        averages = [
            mean_of([one for place, one in other.scores.items() if place <= scored.samples_seen])
            for other in trials.values()
            if other is not trial
            and other.first_from(scored.samples_seen) is not None
            and min(other.scores) <= scored.samples_seen
        ]
        if len(averages) < self.least:
            return None
        median = sorted(averages, key=order.key)[len(averages) // 2]
        best = min(trial.scores.values(), key=order.key)
        if order.beats(median, best):
            return f"its best, {best.value:.4g}, is worse than the median of {len(averages)} others, {median.value:.4g}"
        return None


class PBT(_Scheduler):
    """Population-based training (Jaderberg et al. 2017): the worst copy the best and go on with other numbers.

    All trials run to each boundary; then every trial of the lowest quantile that is worse than one of the highest, by
    more than the noise, gets the state of that one: G, D, averages, optimizers. Its numbers change, its networks never.

    Attributes:
        interval_kimg: thousands of images between two boundaries, a multiple of the interval of evaluations.
        quantile: share of the population that is replaced, and that is copied.
        resample: probability that a number is drawn anew; else it moves by one of `factors`.
        factors: see above.
        evaluations: the newest so many of a stretch are averaged.
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

    def objection(self, trial: Trial, scored: Scored, trials: Trials, order: Order) -> str | None:
        """See the base: nobody stops."""
        return None

    def boundaries(self, total_kimg: float) -> list[int]:
        """Return the places, in images, at which trials wait for each other; the end is none."""
        count = int(total_kimg / self.interval_kimg)
        places = [round(1000 * self.interval_kimg * number) for number in range(1, count + 1)]
        return [place for place in places if place < 1000 * total_kimg]

    def standing(self, trial: Trial, after: int, at: int) -> Scored:
        """Return how a trial did in the stretch between two places; no number if it was not evaluated there."""
        own = [trial.scores[place] for place in sorted(trial.scores) if after < place]
        own = [one for one in own if one.samples_seen <= at + (at - after) // 2]
        return mean_of(own[-self.evaluations :]) if own else Scored(at, math.nan)

    def exploits(self, standings: Mapping[int, Scored], order: Order, draw: Sequence[float]) -> dict[int, int]:
        """Return which trial copies which.

        Args:
            standings: by number of the trial.
            order: which is better.
            draw: chance, in [0, 1), one a trial of the lowest quantile.
        """
        ranked = sorted(standings, key=lambda number: order.key(standings[number]))
        count = max(int(len(ranked) * self.quantile), 1)
        moves = {}
        for loser, share in zip(ranked[-count:], draw, strict=False):
            donor = ranked[:count][int(share * count)]
            if order.beats(standings[donor], standings[loser]):
                moves[loser] = donor
        return moves


AnyScheduler = Annotated[NoScheduler | ASHA | MedianStopping | PBT, Field(discriminator="kind")]
