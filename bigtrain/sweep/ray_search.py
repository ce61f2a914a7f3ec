"""Ray Tune's own search algorithms, by name, with their own arguments.

A searcher of Ray keeps what it has been told. Here it is made anew for each point, and told the points and scores of
all earlier trials: the next point is a function of the event log, as those of our own searchers are.
"""

import importlib
import inspect
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
from pydantic import Field, model_validator

from bigtrain.sweep.event_log import Trial
from bigtrain.sweep.known_points import choice_near, number_near
from bigtrain.sweep.metric import Direction
from bigtrain.sweep.searcher import Searcher
from bigtrain.sweep.space import Point, Space, Value

_OURS = ("self", "space", "metric", "mode", "points_to_evaluate", "evaluated_rewards", "analysis")
_SEEDS = ("seed", "random_state_seed", "random_state")
_TRIES = 50


class RaySearch(Searcher):
    """A search algorithm of Ray Tune (`ray.tune.search`); its library must be installed.

    Numbers on a logarithmic scale are searched by their logarithm, whatever the algorithm. `bayesopt` knows no choices.
    `bohb` belongs to a scheduler that pauses trials: it runs in a Tuner of one's own, with `bigtrain.sweep.trainable`.

    Attributes:
        kind: `ray`.
        name: as `ray.tune.search.create_searcher` has it.
        args: its own arguments, such as `n_initial_points` of hyperopt; nevergrad's `optimizer` is a name of its
            registry (default `TwoPointsDE`).
    """

    kind: Literal["ray"]
    name: Literal["optuna", "hyperopt", "bayesopt", "nevergrad", "hebo", "ax", "zoopt"]
    args: dict[str, Any] = Field(default={})

    @model_validator(mode="after")
    def _is_known_to_ray(self) -> "RaySearch":
        try:
            from ray import tune
        except ImportError:
            raise ValueError("kind 'ray' needs Ray Tune (pip install 'bigtrain[tune]')") from None
        known = [one for one in self._parameters() if one not in (*_OURS, *_SEEDS)]
        for key in self.args:
            if key not in known:
                raise ValueError(f"args: {self.name} has no '{key}'; it has {', '.join(known)}")
        try:
            with _seeded(0):
                self._make({"x": tune.uniform(0.0, 1.0)}, [], 0).suggest("0")
        except Exception as error:  # whatever Ray and the library raise: not installed, values that do not fit
            words = str(error).strip().splitlines() or [type(error).__name__]
            raise ValueError(f"{self.name} cannot be used: {words[0]}") from None
        return self

    def point(
        self, number: int, space: Space, trials: Mapping[int, Trial], direction: Direction, *, seed: int
    ) -> Point | None:
        """See the base."""
        known = [trial for trial in trials.values() if trial.repeats is None]
        dimensions = Dimensions(space)
        with _seeded(seed * 10_000 + number) as own:
            searcher = self._make(dimensions.domains, [dimensions.shown(trial.point) for trial in known], own)
            for trial in known:
                searcher.suggest(f"known {trial.number}")
            for trial, score in _scored(known, direction):
                searcher.on_trial_complete(f"known {trial.number}", {"score": score})
            for attempt in range(_TRIES):
                suggested = searcher.suggest(f"{number} {attempt}")
                if not isinstance(suggested, dict):
                    break  # it has no more, or waits for results
                point = space.suggest(_Given(suggested, dimensions.names))
                if point is not None:
                    return point
        return space.draw(f"{seed}/{number}")

    def _parameters(self) -> Mapping[str, inspect.Parameter]:
        from ray.tune.search import SEARCH_ALG_IMPORT

        return inspect.signature(SEARCH_ALG_IMPORT[self.name]().__init__).parameters

    def _make(self, domains: Mapping[str, Any], points: Sequence[Mapping[str, Value]], seed: int) -> Any:
        """Return a new searcher of Ray, which suggests the points first."""
        from ray.tune.search import create_searcher

        seeds = {name: seed for name in _SEEDS if name in self._parameters()}
        args = dict(self.args)
        if self.name == "optuna":  # else it tells of each study on standard error
            import optuna

            optuna.logging.set_verbosity(optuna.logging.WARNING)
        if self.name == "nevergrad":
            registry = importlib.import_module("nevergrad").optimizers.registry
            args["optimizer"] = registry[args.get("optimizer", "TwoPointsDE")]
        shown = {"points_to_evaluate": [dict(point) for point in points]} if points else {}
        searcher = create_searcher(self.name, **seeds, **shown, **args)
        searcher.set_search_properties("score", "min", dict(domains))
        return searcher


class Dimensions:
    """A search space as Ray's searchers know it: flat, unconditional, and with logarithms for logarithmic scales.

    Args:
        space: the space.

    Attributes:
        names: the number of each dimension, by what is suggested; their names have characters that Ray does not take.
        domains: by number.
    """

    def __init__(self, space: Space) -> None:
        self._space = space
        self.names: dict[str, str] = {}
        self.domains: dict[str, Any] = {}
        self._first: dict[str, Value] = {}
        for key, parameter in space.parameters.items():
            parameter.suggest(key, self, dict.fromkeys((*space.base_values, *space.parameters), 1.0))

    def suggest_float(self, name: str, low: float, high: float, *, log: bool, steps: int) -> float:
        """See Suggester."""
        from ray import tune

        bounds = (math.log(low), math.log(high)) if log else (low, high)
        self._add(name, tune.uniform(*bounds), bounds[0])
        return low

    def suggest_categorical(self, name: str, values: Sequence[Value]) -> Value:
        """See Suggester."""
        from ray import tune

        self._add(name, tune.choice(list(values)), values[0])
        return values[0]

    def _add(self, name: str, domain: Any, first: Value) -> None:
        number = self.names[name] = f"x{len(self.names)}"
        self.domains[number], self._first[number] = domain, first

    def shown(self, point: Point) -> dict[str, Value]:
        """Return a known point by numbers of dimensions; those that do not apply there have any value."""
        known = {**self._space.base_values, **point}
        shown = _Shown(known, self.names)
        for key, parameter in self._space.parameters.items():
            if key in point and parameter.applies(known):
                parameter.suggest(key, shown, known)
        return {**self._first, **shown.values}


class _Shown:
    """Records what would have been suggested to come to a known point."""

    def __init__(self, known: Mapping[str, Value], names: Mapping[str, str]) -> None:
        self._known, self._names = known, names
        self.values: dict[str, Value] = {}

    def suggest_float(self, name: str, low: float, high: float, *, log: bool, steps: int) -> float:
        """See Suggester."""
        value = number_near(self._known, name, low, high)
        self.values[self._names[name]] = math.log(value) if log else value
        return value

    def suggest_categorical(self, name: str, values: Sequence[Value]) -> Value:
        """See Suggester."""
        value = self.values[self._names[name]] = choice_near(self._known, name, values)
        return value


class _Given:
    """Suggests what a searcher of Ray has suggested."""

    def __init__(self, given: Mapping[str, Any], names: Mapping[str, str]) -> None:
        self._given, self._names = given, names

    def suggest_float(self, name: str, low: float, high: float, *, log: bool, steps: int) -> float:
        """See Suggester."""
        value = float(self._given[self._names[name]])
        return min(max(math.exp(value) if log else value, low), high)

    def suggest_categorical(self, name: str, values: Sequence[Value]) -> Value:
        """See Suggester."""
        value: Value = self._given[self._names[name]]
        return value


def _scored(trials: Sequence[Trial], direction: Direction) -> Iterator[tuple[Trial, float]]:
    """Iterate over the trials with a score, less being better; one that is not finite is the worst of the others."""
    scored = [(trial, direction.key(trial.last)) for trial in trials if trial.last is not None]
    finite = [score for _, score in scored if math.isfinite(score)]
    for trial, score in scored:
        if finite:
            yield trial, score if math.isfinite(score) else max(finite)


@contextmanager
def _seeded(seed: int) -> Iterator[int]:
    """Seed NumPy's own generator, which some searchers draw from, and give it back as it was."""
    before, seed = np.random.get_state(), seed % 2**31
    np.random.seed(seed)
    try:
        yield seed
    finally:
        np.random.set_state(before)
