"""Searchers: random points, a grid, Optuna, and the search algorithms of Ray Tune by name.

A searcher keeps nothing: what proposes points is created for each point and told all earlier points and scores, so that
a resumed sweep needs no state but the event log.
"""

import importlib
import inspect
import itertools
import logging
import math
import random
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field, PositiveInt, model_validator

from bigtrain.core.config import Config
from bigtrain.sweep.event_log import Trial
from bigtrain.sweep.metric import Direction, TrialScore
from bigtrain.sweep.ray_names import check_arguments, one_line, require_ray
from bigtrain.sweep.space import Dimension, Point, Space

if TYPE_CHECKING:
    import optuna

_TRIES = 50
_OURS = ("self", "space", "metric", "mode", "points_to_evaluate", "evaluated_rewards", "analysis")
_SEEDS = ("seed", "random_state_seed", "random_state")


class Searcher(Config, ABC):
    """What proposes the points of a sweep."""

    kind: str

    @abstractmethod
    def point(
        self, number: int, space: Space, trials: Mapping[int, Trial], direction: Direction, *, seed: int
    ) -> Point | None:
        """Return the point of trial `number`, which is above 0; None if the search is exhausted.

        Args:
            number: number of the trial.
            space: the search space.
            trials: all earlier trials of the search, by number.
            direction: whether the metric is minimised or maximised.
            seed: seed of the search.
        """


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
        import optuna

        sampler = optuna.samplers.TPESampler(seed=seed * 10_000 + number, n_startup_trials=self.startup)
        study = study_of(space, trials, direction, self.objectives, sampler)
        for _ in range(_TRIES):
            point = space.at(study.ask(_distributions(space)).params)
            if point is not None:
                return point
        return space.draw(f"{seed}/{number}")


class RaySearch(Searcher):
    """A search algorithm of Ray Tune (`ray.tune.search`); its library must be installed.

    Numbers are searched by their shares of their ranges, which may be logarithmic, whatever the algorithm. `bayesopt`
    knows no choices. `bohb` is told each score of a trial, as one for a budget of so many images, and proposes by the
    scores of the largest budget that has enough of them; the others are told the newest score of each trial.

    Attributes:
        kind: `ray`.
        name: name of the algorithm in `ray.tune.search.create_searcher`.
        args: its own arguments, such as `n_initial_points` of hyperopt; nevergrad's `optimizer` is a name of its
            registry (default `TwoPointsDE`).
    """

    kind: Literal["ray"]
    name: Literal["optuna", "hyperopt", "bayesopt", "nevergrad", "hebo", "ax", "bohb"]
    args: dict[str, Any] = Field(default={})

    @model_validator(mode="after")
    def _is_known_to_ray(self) -> "RaySearch":
        require_ray()
        from ray import tune

        with seeded(0):
            check_arguments(self.name, self.args, [one for one in self._parameters() if one not in (*_OURS, *_SEEDS)])
            try:
                self._make({"x": tune.uniform(0.0, 1.0)}, [], 0).suggest("0")
            except Exception as error:  # whatever Ray and the library raise: not installed, values that do not fit
                raise ValueError(f"{self.name} cannot be used: {one_line(error)}") from None
        return self

    def point(
        self, number: int, space: Space, trials: Mapping[int, Trial], direction: Direction, *, seed: int
    ) -> Point | None:
        """See the base."""
        names = {key: f"x{place}" for place, key in enumerate(space.dimensions)}  # not all of them take dots
        domains = {names[key]: _domain(dimension) for key, dimension in space.dimensions.items()}
        shares = [space.to_shares(space.all_coordinates(trial.point)) for trial in trials.values()]
        known = [{names[key]: share for key, share in one.items()} for one in shares]
        with seeded(seed * 10_000 + number) as own:
            searcher = self._make(domains, known, own)
            for trial in trials.values():
                searcher.suggest(f"known {trial.number}")
            self._tell(searcher, trials.values(), direction)
            for attempt in range(_TRIES):
                suggested = searcher.suggest(f"{number} {attempt}")
                if not isinstance(suggested, dict):
                    break  # it has no more, or waits for results
                point = space.at(space.from_shares({key: suggested[name] for key, name in names.items()}))
                if point is not None:
                    return point
        return space.draw(f"{seed}/{number}")

    def _tell(self, searcher: Any, trials: Iterable[Trial], direction: Direction) -> None:
        """Tell a searcher of Ray the scores of the trials: the last of each; BOHB all of them, with their budgets."""
        if self.name != "bohb":
            for trial, score in _scored(trials, direction):
                searcher.on_trial_complete(f"known {trial.number}", {"score": direction.key(score)})
            return
        told = [(score, trial.number) for trial in trials for score in trial.scores.values()]
        # Its model is that of the largest budget with enough scores: told first, the others are not fitted.
        for score, number in sorted(told, key=lambda one: (-one[0].samples_seen, one[1])):
            result = {"score": direction.key(score), "hyperband_info": {"budget": score.kimg}}
            searcher.on_trial_result(f"known {number}", result)

    def _parameters(self) -> Mapping[str, inspect.Parameter]:
        from ray.tune.search import SEARCH_ALG_IMPORT

        return inspect.signature(SEARCH_ALG_IMPORT[self.name]().__init__).parameters

    def _make(self, domains: Mapping[str, Any], points: Sequence[Point], seed: int) -> Any:
        """Return a new searcher of Ray, which suggests the points first."""
        from ray.tune.search import create_searcher

        for logger in ("ray.tune.search", "ax"):  # they tell what is of no use in a sweep
            logging.getLogger(logger).setLevel(logging.ERROR)
        seeds = {name: seed for name in _SEEDS if name in self._parameters()}
        args = dict(self.args)
        if self.name == "ax":  # it passes whatever is given on to its client
            seeds["random_seed"] = seed
        if self.name == "optuna":  # otherwise it writes a line for each study to standard error
            import optuna

            optuna.logging.set_verbosity(optuna.logging.WARNING)
        if self.name == "nevergrad":
            registry = importlib.import_module("nevergrad").optimizers.registry
            args["optimizer"] = registry[args.get("optimizer", "TwoPointsDE")]
        first = {"points_to_evaluate": list(points)} if points else {}
        searcher = create_searcher(self.name, **seeds, **first, **args)
        searcher.set_search_properties("score", "min", dict(domains))
        return searcher


AnySearcher = Annotated[RandomSearch | GridSearch | OptunaSearch | RaySearch, Field(discriminator="kind")]


def study_of(
    space: Space,
    trials: Mapping[int, Trial],
    direction: Direction,
    objectives: Sequence[str] = ("score",),
    sampler: "optuna.samplers.BaseSampler | None" = None,
    names: Callable[[str], str] = str,
) -> "optuna.Study":
    """Return an Optuna study of all trials that have a score, whose parameters have the names of their keys."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    ways: dict[str, Literal["maximize", "minimize"]] = {
        "score": "maximize" if direction.maximize else "minimize",
        "speed": "maximize",
    }
    study = optuna.create_study(directions=[ways[name] for name in objectives], sampler=sampler)
    distributions = _distributions(space)
    for trial, last in _scored(trials.values(), direction):
        values = {"score": last.value, "speed": last.img_per_s}
        params = space.coordinates(trial.point)
        done = optuna.trial.create_trial(
            params={names(key): value for key, value in params.items()},
            distributions={names(key): distributions[key] for key in params},
            values=[values[name] for name in objectives],
        )
        study.add_trial(done)
    return study


def _distributions(space: Space) -> "dict[str, optuna.distributions.BaseDistribution]":
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    return {
        key: CategoricalDistribution(list(one.values))
        if one.values
        else FloatDistribution(one.low, one.high, log=one.log)
        for key, one in space.dimensions.items()
    }


def _domain(dimension: Dimension) -> Any:
    """Return the domain of Ray of a dimension; numbers are searched by their shares of the range."""
    from ray import tune

    return tune.choice(list(dimension.values)) if dimension.values else tune.uniform(0.0, 1.0)


def _scored(trials: Iterable[Trial], direction: Direction) -> Iterator[tuple[Trial, TrialScore]]:
    """Iterate over the trials with a score; a score that is not finite counts as the worst of the others."""
    scored = [(trial, trial.last) for trial in trials if trial.last is not None]
    worst = max((last for _, last in scored if math.isfinite(last.value)), key=direction.key, default=None)
    for trial, last in scored:
        if worst is not None:
            yield trial, last if math.isfinite(last.value) else replace(last, value=worst.value)


@contextmanager
def seeded(seed: int) -> Iterator[int]:
    """Seed the global generators of Python, NumPy and PyTorch, which Ray draws from, and restore them afterwards.

    Warnings are ignored: those of the libraries are for Ray, such as deprecations and models with few points.
    """
    before, pythons, seed = np.random.get_state(), random.getstate(), seed % 2**31
    try:
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore")
            np.random.seed(seed)
            random.seed(seed)
            torch.default_generator.manual_seed(seed)
            yield seed
    finally:
        np.random.set_state(before)
        random.setstate(pythons)
