"""Ray Tune's own rules that stop trials early, by name, with their own arguments.

A rule of Ray keeps what it has been told. Here it is made anew for each decision, and told all scores of the sweep in
the order in which they came: the decision is a function of the event log, as those of our own are.
"""

import inspect
import math
from abc import ABC, abstractmethod
from types import SimpleNamespace
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from bigtrain.sweep.event_log import Trial
from bigtrain.sweep.metric import Direction, TrialScore
from bigtrain.sweep.rule import Rule, Trials

_OURS = ("time_attr", "metric", "mode")
_WORST = 1e30
"""What stands for a score that is no finite number: Ray's percentiles know no infinity."""


class RayRule(Rule):
    """A rule of Ray Tune (`ray.tune.schedulers`) that only stops trials; time is thousands of images.

    Those that pause trials or copy their checkpoints (`hyperband`, `hb_bohb`, `pbt`, `pb2`) run in a Tuner of one's
    own, with `bigtrain.sweep.trainable`; `kind: pbt` is ours.

    Attributes:
        kind: `ray`.
        name: as `ray.tune.schedulers.create_scheduler` has it: `async_hyperband` or `median_stopping_rule`.
        args: its own arguments, such as `grace_period`; `max_t` is `total_kimg` unless given.
    """

    kind: Literal["ray"]
    name: Literal["async_hyperband", "asynchyperband", "median_stopping_rule", "medianstopping"]
    args: dict[str, Any] = Field(default={})

    @model_validator(mode="after")
    def _is_known_to_ray(self) -> "RayRule":
        try:
            from ray.tune.schedulers import SCHEDULER_IMPORT
        except ImportError:
            raise ValueError("kind 'ray' needs Ray Tune (pip install 'bigtrain[tune]')") from None
        known = [one for one in inspect.signature(SCHEDULER_IMPORT[self.name]).parameters if one not in _OURS]
        for key in self.args:
            if key not in known:
                raise ValueError(f"args: {self.name} has no '{key}'; it has {', '.join(known)}")
        try:
            self.make(Direction(), 100.0)
        except Exception as error:  # whatever Ray raises about the values
            raise ValueError(f"args: {self.name} rejects them: {error or type(error).__name__}") from None
        return self

    def make(self, direction: Direction, total_kimg: float) -> Any:
        """Return a new rule of Ray."""
        from ray.tune.schedulers import create_scheduler

        # create_scheduler leaves out what a rule does not have.
        usual = {"max_t": max(total_kimg, float(self.args.get("grace_period", 1)))}
        return create_scheduler(self.name, time_attr="kimg", metric="score", mode="min", **{**usual, **self.args})

    def reason_to_stop(
        self, trial: Trial, score: TrialScore, trials: Trials, direction: Direction, total_kimg: float
    ) -> str | None:
        """See the base."""
        rule = self.make(direction, total_kimg)
        controller = SimpleNamespace(get_live_trials=list)
        stubs = {number: _Stub(str(number)) for number in trials}
        for stub in stubs.values():
            rule.on_trial_add(controller, stub)
        told = [
            (other.came.get(one.samples_seen, one.samples_seen), number, one)
            for number, other in trials.items()
            for one in other.scores.values()
            if one is not score
        ]
        for _, number, one in [*sorted(told, key=lambda entry: entry[:2]), (0, trial.number, score)]:
            result = {"kimg": one.kimg, "score": _told(direction.key(one))}
            if rule.on_trial_result(controller, stubs[number], result) == "STOP" and number == trial.number:
                return f"Ray Tune's {self.name} stops it at {one.kimg:g} kimg"
        return None


def _told(key: float) -> float:
    return key if math.isfinite(key) else _WORST


class _Stub(SimpleNamespace):
    """What Ray's rules need of a trial."""

    def __init__(self, number: str) -> None:
        super().__init__(trial_id=number)

    def __hash__(self) -> int:  # type: ignore[override]
        """Let a rule keep it in a set."""
        return hash(self.trial_id)


class _Named(Rule, ABC):
    """A rule of Ray Tune with names of ours."""

    grace_kimg: PositiveFloat

    @property
    @abstractmethod
    def rays(self) -> RayRule:
        """The rule."""

    def reason_to_stop(
        self, trial: Trial, score: TrialScore, trials: Trials, direction: Direction, total_kimg: float
    ) -> str | None:
        """See the base."""
        return self.rays.reason_to_stop(trial, score, trials, direction, total_kimg)


class ASHA(_Named):
    """Asynchronous successive halving (Li et al. 2020) of Ray Tune, where the resource is the number of images seen.

    At the rungs `grace_kimg`, `grace_kimg · reduction`, … the best 1/`reduction` of the trials that have reached the
    rung go on.

    Attributes:
        grace_kimg: thousands of images before which no trial is stopped.
        reduction: reduction factor (eta in the paper).
    """

    kind: Literal["asha"]
    reduction: Annotated[float, Field(gt=1)] = 3.0

    @property
    def rays(self) -> RayRule:
        """See the base."""
        arguments = {"grace_period": self.grace_kimg, "reduction_factor": self.reduction}
        return RayRule.model_construct(kind="ray", name="async_hyperband", args=arguments)


class MedianStopping(_Named):
    """Ray Tune's median stopping rule (Golovin et al. 2017, section 3.2).

    A trial is stopped if its best score is worse than the median of the other trials' average scores.

    Attributes:
        grace_kimg: thousands of images before which no trial is stopped, and whose scores do not count.
        least: number of other trials that must have come as far.
    """

    kind: Literal["median"]
    least: PositiveInt = 3

    @property
    def rays(self) -> RayRule:
        """See the base."""
        arguments = {"grace_period": self.grace_kimg, "min_samples_required": self.least}
        return RayRule.model_construct(kind="ray", name="median_stopping_rule", args=arguments)
