"""Where points come from: chance, a grid, Optuna."""

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, PositiveInt

from bigtrain.core.config import Config
from bigtrain.sweep.journal import Trial
from bigtrain.sweep.metric import Order
from bigtrain.sweep.space import Point, Space, Value

if TYPE_CHECKING:
    import optuna

_TRIES = 50


class _Searcher(Config, ABC):
    kind: str

    @abstractmethod
    def point(self, number: int, space: Space, trials: Mapping[int, Trial], order: Order, *, seed: int) -> Point | None:
        """Return the point of trial `number`, which is above 0; None if there are no more.

        Args:
            number: of the trial.
            space: where to look.
            trials: all that came before, by number.
            order: which score is better.
            seed: of chance.
        """


class RandomSearch(_Searcher):
    """Points by chance."""

    kind: Literal["random"] = "random"

    def point(self, number: int, space: Space, trials: Mapping[int, Trial], order: Order, *, seed: int) -> Point | None:
        """See the base: a function of seed and number alone."""
        return space.draw(f"{seed}/{number}")


class GridSearch(_Searcher):
    """Every combination: all values of choices, `steps` of each range."""

    kind: Literal["grid"]

    def point(self, number: int, space: Space, trials: Mapping[int, Trial], order: Order, *, seed: int) -> Point | None:
        """See the base."""
        return next(itertools.islice(space.grid(), number - 1, None), None)


class OptunaSearch(_Searcher):
    """Tree-structured Parzen estimators (Bergstra et al. 2011; Watanabe 2023), as Optuna has them.

    The study is made anew from the trials at each point, so that a resume needs no more than the journal.

    Attributes:
        objectives: `score`, and `speed` in images a second, of which the Pareto front is looked for.
        startup: points by chance before the first model.
    """

    kind: Literal["optuna"]
    objectives: Annotated[tuple[Literal["score", "speed"], ...], Field(min_length=1)] = ("score",)
    startup: PositiveInt = 5

    def point(self, number: int, space: Space, trials: Mapping[int, Trial], order: Order, *, seed: int) -> Point | None:
        """See the base."""
        study = self.study(space, trials, order, seed=seed * 10_000 + number)
        for _ in range(_TRIES):
            point = space.pick(_Optuna(study.ask()))
            if point is not None:
                return point
        return space.draw(f"{seed}/{number}")

    def study(self, space: Space, trials: Mapping[int, Trial], order: Order, *, seed: int) -> "optuna.Study":
        """Return the study of all trials that have a score."""
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        ways: dict[str, Literal["maximize", "minimize"]] = {
            "score": "maximize" if order.higher else "minimize",
            "speed": "maximize",
        }
        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=self.startup)
        study = optuna.create_study(directions=[ways[name] for name in self.objectives], sampler=sampler)
        scored = [(trial, trial.last) for trial in trials.values() if trial.repeats is None and trial.last is not None]
        finite = [last for _, last in scored if math.isfinite(last.value)]
        worst = max(finite, key=order.key, default=None)
        for trial, last in scored:
            if worst is not None:
                # What came to no number is as bad as the worst that did: Optuna takes numbers only.
                value = last.value if math.isfinite(last.value) else worst.value
                values = {"score": value, "speed": last.img_per_s}
                study.add_trial(told(space, trial.point, [values[name] for name in self.objectives]))
        return study


AnySearcher = Annotated[RandomSearch | GridSearch | OptunaSearch, Field(discriminator="kind")]


class _Optuna:
    """Lets Optuna pick."""

    def __init__(self, trial: "optuna.Trial") -> None:
        self._trial = trial

    def number(self, name: str, low: float, high: float, *, log: bool, steps: int) -> float:
        """See Chooser."""
        return self._trial.suggest_float(name, low, high, log=log)

    def one_of(self, name: str, values: Sequence[Value]) -> Value:
        """See Chooser."""
        picked: Value = self._trial.suggest_categorical(name, values)
        return picked


class _Recorder:
    """Finds out what Optuna would have picked to come to a point."""

    def __init__(self, known: Mapping[str, Value]) -> None:
        self._known = known
        self.params: dict[str, Value] = {}
        self.distributions: dict[str, optuna.distributions.BaseDistribution] = {}

    def number(self, name: str, low: float, high: float, *, log: bool, steps: int) -> float:
        """See Chooser; `name` is a key, or `key / other` for a ratio."""
        from optuna.distributions import FloatDistribution

        key, _, other = name.partition(" / ")
        value = float(self._known[key])  # type: ignore[arg-type]
        value = value / float(self._known[other]) if other else value  # type: ignore[arg-type]
        value = min(max(value, low), high)  # the base may lie outside, and points are rounded
        self.params[name], self.distributions[name] = value, FloatDistribution(low, high, log=log)
        return value

    def one_of(self, name: str, values: Sequence[Value]) -> Value:
        """See Chooser."""
        from optuna.distributions import CategoricalDistribution

        value = self._known[name]
        if value not in values:
            value = min(values, key=lambda one: _apart(one, self._known[name]))
        self.params[name], self.distributions[name] = value, CategoricalDistribution(list(values))
        return value


def told(space: Space, point: Point, values: Sequence[float]) -> "optuna.trial.FrozenTrial":
    """Return a point and its values as Optuna keeps them."""
    import optuna

    known = {**space.base_values, **point}
    recorder = _Recorder(known)
    for key, parameter in space.parameters.items():
        if key in point and parameter.applies(known):
            parameter.pick(key, recorder, known)
    return optuna.trial.create_trial(params=recorder.params, distributions=recorder.distributions, values=list(values))


def _apart(one: Value, other: Value) -> float:
    return abs(float(one) - float(other)) if isinstance(one, int | float) and isinstance(other, int | float) else 1.0
