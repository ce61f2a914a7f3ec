"""Searchers: random search, grid search, Optuna, and those of Ray Tune."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, PositiveInt

from bigtrain.sweep.event_log import Trial
from bigtrain.sweep.known_points import choice_near, number_near
from bigtrain.sweep.metric import Direction
from bigtrain.sweep.ray_search import RaySearch
from bigtrain.sweep.searcher import Searcher
from bigtrain.sweep.space import Point, Space, Value

if TYPE_CHECKING:
    import optuna

_TRIES = 50


class RandomSearch(Searcher):
    """Random points."""

    kind: Literal["random"] = "random"

    def point(
        self, number: int, space: Space, trials: Mapping[int, Trial], direction: Direction, *, seed: int
    ) -> Point | None:
        """See the base. The point is a function of seed and number alone."""
        return space.draw(f"{seed}/{number}")


class GridSearch(Searcher):
    """All combinations: every value of a choice, `steps` values of a range."""

    kind: Literal["grid"]

    def point(
        self, number: int, space: Space, trials: Mapping[int, Trial], direction: Direction, *, seed: int
    ) -> Point | None:
        """See the base."""
        return next(itertools.islice(space.grid(), number - 1, None), None)


class OptunaSearch(Searcher):
    """Optuna's tree-structured Parzen estimator (Bergstra et al. 2011; Watanabe 2023).

    The study is built from the trials for each point, so that a resumed sweep needs no state but the event log.

    Attributes:
        objectives: `score`, `speed` in images per second, or both, for their Pareto front.
        startup: number of random points before the first model is fitted.
    """

    kind: Literal["optuna"]
    objectives: Annotated[tuple[Literal["score", "speed"], ...], Field(min_length=1)] = ("score",)
    startup: PositiveInt = 5

    def point(
        self, number: int, space: Space, trials: Mapping[int, Trial], direction: Direction, *, seed: int
    ) -> Point | None:
        """See the base."""
        study = self.study(space, trials, direction, seed=seed * 10_000 + number)
        for _ in range(_TRIES):
            point = space.suggest(_OptunaSuggester(study.ask()))
            if point is not None:
                return point
        return space.draw(f"{seed}/{number}")

    def study(self, space: Space, trials: Mapping[int, Trial], direction: Direction, *, seed: int) -> "optuna.Study":
        """Return the study of all trials that have a score."""
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        directions: dict[str, Literal["maximize", "minimize"]] = {
            "score": "maximize" if direction.maximize else "minimize",
            "speed": "maximize",
        }
        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=self.startup)
        study = optuna.create_study(directions=[directions[name] for name in self.objectives], sampler=sampler)
        scored = [(trial, trial.last) for trial in trials.values() if trial.repeats is None and trial.last is not None]
        finite = [last for _, last in scored if math.isfinite(last.value)]
        worst = max(finite, key=direction.key, default=None)
        for trial, last in scored:
            if worst is not None:
                # Optuna takes finite values only: a trial without one counts as the worst of the others.
                value = last.value if math.isfinite(last.value) else worst.value
                values = {"score": value, "speed": last.img_per_s}
                study.add_trial(completed_trial(space, trial.point, [values[name] for name in self.objectives]))
        return study


AnySearcher = Annotated[RandomSearch | GridSearch | OptunaSearch | RaySearch, Field(discriminator="kind")]


class _OptunaSuggester:
    """Lets an Optuna trial suggest."""

    def __init__(self, trial: "optuna.Trial") -> None:
        self._trial = trial

    def suggest_float(self, name: str, low: float, high: float, *, log: bool, steps: int) -> float:
        """See Suggester."""
        return self._trial.suggest_float(name, low, high, log=log)

    def suggest_categorical(self, name: str, values: Sequence[Value]) -> Value:
        """See Suggester."""
        value: Value = self._trial.suggest_categorical(name, values)
        return value


class _SuggestionRecorder:
    """Records the parameters and distributions with which Optuna would have suggested a known point."""

    def __init__(self, known: Mapping[str, Value]) -> None:
        self._known = known
        self.params: dict[str, Value] = {}
        self.distributions: dict[str, optuna.distributions.BaseDistribution] = {}

    def suggest_float(self, name: str, low: float, high: float, *, log: bool, steps: int) -> float:
        """See Suggester; `name` is a key, or `key / other` for a ratio."""
        from optuna.distributions import FloatDistribution

        value = number_near(self._known, name, low, high)
        self.params[name], self.distributions[name] = value, FloatDistribution(low, high, log=log)
        return value

    def suggest_categorical(self, name: str, values: Sequence[Value]) -> Value:
        """See Suggester."""
        from optuna.distributions import CategoricalDistribution

        value = choice_near(self._known, name, values)
        self.params[name], self.distributions[name] = value, CategoricalDistribution(list(values))
        return value


def completed_trial(space: Space, point: Point, values: Sequence[float]) -> "optuna.trial.FrozenTrial":
    """Return a point and its objectives as a completed Optuna trial."""
    import optuna

    known = {**space.base_values, **point}
    recorder = _SuggestionRecorder(known)
    for key, parameter in space.parameters.items():
        if key in point and parameter.applies(known):
            parameter.suggest(key, recorder, known)
    return optuna.trial.create_trial(params=recorder.params, distributions=recorder.distributions, values=list(values))
