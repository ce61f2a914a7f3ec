"""The study of population-based training in benchmarks/sweeps.py: a simulation fitted to real curves."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bigtrain.evaluation.noise import is_better
from bigtrain.sweep.decisions import RayDecisions
from bigtrain.sweep.metric import TrialScore, mean_score
from bigtrain.sweep.schedulers import RayScheduler
from bigtrain.sweep.space import Space, Uniform

POPULATION, STEPS, INTERVAL, JITTER = 8, 12, 3, 0.02
Array = np.ndarray[Any, Any]
CURVES = Path(__file__).with_name("sweep_curves.json")


@dataclass(frozen=True)
class Curves:
    """Real curves: points [settings, keys] on linear scales from 0 to 1, scores and their errors [settings, STEPS]."""

    points: Array
    fid: Array
    error: Array


def load_curves() -> Curves:
    """Read the curves of the first seed."""
    found = [one for one in json.loads(CURVES.read_text())["curves"] if one["seed"] == 0]
    keys = list(found[0]["coordinates"])
    points = np.array([[one["coordinates"][key] for key in keys] for one in found])
    return Curves(points, np.array([one["fid"] for one in found]), np.array([one["error"] for one in found]))


@dataclass(frozen=True)
class Dynamics:
    """How training goes on, as a function of the setting and of the score that has been reached.

    In one interval between evaluations, the distance of the score from the floor of the setting shrinks by the factor
    exp(-rate); a score below the floor grows towards it, as weights get worse with a bad setting. Floor and rate are
    fitted to each real curve, and averaged over the real settings with Gaussian weights.

    Attributes:
        points: real settings [settings, keys], on linear scales from 0 to 1.
        logs: logarithms of floor and rate of each [settings, 2].
        start: score before training.
        width: standard deviation of the weights.
    """

    points: Array
    logs: Array
    start: float
    width: float

    def of(self, point: Array) -> tuple[float, float]:
        """Return floor and rate of a setting."""
        weights = np.exp(-((self.points - point) ** 2).sum(1) / (2 * self.width**2)) + 1e-12
        floor, rate = np.exp((weights[:, None] * self.logs).sum(0) / weights.sum())
        return float(floor), float(rate)

    def step(self, score: float, point: Array) -> float:
        """Return the score after one more interval with a setting."""
        floor, rate = self.of(point)
        return floor + (score - floor) * math.exp(-rate)


def fit(curves: Curves) -> Dynamics:
    """Fit floor and rate of each curve by least squares on the logarithms of scores, from a common start."""
    start = float(curves.fid[:, 0].max() * 1.2)
    steps = np.arange(1, curves.fid.shape[1] + 1)
    logs = []
    rates = np.geomspace(0.02, 2.0, 60)
    for fid in curves.fid:
        floors = fid.min() * np.linspace(0.3, 1.1, 41)
        model = floors[:, None, None] + (start - floors)[:, None, None] * np.exp(-rates[None, :, None] * steps)
        loss = ((np.log(model) - np.log(fid)) ** 2).sum(-1)
        floor, rate = np.unravel_index(loss.argmin(), loss.shape)
        logs.append([math.log(floors[floor]), math.log(rates[rate])])
    return _with_best_width(curves.points, np.array(logs), start)


def _with_best_width(points: Array, logs: Array, start: float) -> Dynamics:
    """Return the dynamics with the width that predicts each curve best from the others."""

    def loss(width: float) -> float:
        total = 0.0
        for one in range(len(points)):
            rest = np.arange(len(points)) != one
            floor, rate = Dynamics(points[rest], logs[rest], start, width).of(points[one])
            total += float(((np.log([floor, rate]) - logs[one]) ** 2).sum())
        return total

    return Dynamics(points, logs, start, min((0.08, 0.12, 0.18, 0.25, 0.35), key=loss))


def population_table(curves: Curves, count: int) -> list[str]:
    """Return the lines of the table of populations."""
    dynamics = fit(curves)
    grid = np.random.default_rng(0).random((2000, curves.points.shape[1]))
    best = min(_whole(dynamics, point) for point in grid)
    share = float(np.median(curves.error / curves.fid))
    lines = [
        f"| scheduler (population of {POPULATION}) | noise | regret (mean ± s.e.) | median regret | copies |",
        "|---|---|---|---|---|",
    ]
    for noise in (share, 4 * share):
        for name, run in METHODS.items():
            found = [run(dynamics, np.random.default_rng([11, number]), noise) for number in range(count)]
            regrets = np.array([score for score, _ in found]) / best - 1
            error = regrets.std(ddof=1) / math.sqrt(count)
            lines.append(
                f"| {name} | {noise:.1%} | {regrets.mean():.1%} ± {error:.1%} | {np.median(regrets):.1%} "
                f"| {np.mean([copies for _, copies in found]):.1f} |"
            )
            print(lines[-1], flush=True)
    return lines


def _whole(dynamics: Dynamics, point: Array) -> float:
    score = dynamics.start
    for _ in range(STEPS):
        score = dynamics.step(score, point)
    return score


def _space(keys: int) -> Space:
    parameters = {f"x{key}": Uniform(kind="uniform", low=0.0, high=1.0) for key in range(keys)}
    return Space(parameters, [], dict.fromkeys(parameters, 0.5))


def population(
    dynamics: Dynamics,
    generator: np.random.Generator,
    noise: float,
    *,
    name: str | None = "pbt",
    averaged: int = 1,
    beyond_noise: bool = False,
    **arguments: Any,
) -> tuple[float, int]:
    """Train a population; return the true score in the end of the trial that seems the best, and the copies made."""
    keys = dynamics.points.shape[1]
    space, points = _space(keys), generator.random((POPULATION, keys))
    jitter, measured = generator.standard_normal((2, STEPS, POPULATION))
    decisions = None
    if name is not None:
        config = RayScheduler(kind="ray", name=name, args={"perturbation_interval": INTERVAL, **arguments})  # type: ignore[arg-type]
        decisions = RayDecisions(config, float(STEPS), space, POPULATION, int(generator.integers(2**16)))
        for number in range(POPULATION):
            decisions.on_event({"event": "trial", "number": number, "repeats": None})
    true, copies = np.full(POPULATION, dynamics.start), 0
    seen: dict[int, list[TrialScore]] = {number: [] for number in range(POPULATION)}
    for step in range(STEPS):
        for number in range(POPULATION):
            true[number] = dynamics.step(true[number], points[number])
            value = true[number] * (1 + JITTER * jitter[step, number] + noise * measured[step, number])
            seen[number].append(TrialScore(step + 1, float(value), float(noise * value)))
        if decisions is None or (step + 1) % INTERVAL or step + 1 == STEPS:
            continue
        scores = {number: mean_score(own[-averaged:]) for number, own in seen.items()}
        own_points = {number: {f"x{key}": float(points[number, key]) for key in range(keys)} for number in seen}
        for number, donor, point in decisions.moves(
            step // INTERVAL, {n: (own_points[n], scores[n].value) for n in seen}
        ):
            one, other = scores[donor], scores[number]
            if beyond_noise and not is_better(one.value, one.error, other.value, other.error, higher=False):
                continue
            true[number], copies = true[donor], copies + 1
            points[number] = [float((point or own_points[donor])[f"x{key}"]) for key in range(keys)]  # type: ignore[arg-type]
    chosen = min(seen, key=lambda number: seen[number][-1].value)
    return float(true[chosen]), copies


def _method(**arguments: Any) -> Callable[[Dynamics, np.random.Generator, float], tuple[float, int]]:
    return lambda dynamics, generator, noise: population(dynamics, generator, noise, **arguments)


FACTORS = {"perturbation_factors": (0.8, 1.25)}
METHODS: Mapping[str, Callable[[Dynamics, np.random.Generator, float], tuple[float, int]]] = {
    "none: as many whole trainings": _method(name=None),
    "PBT, bigtrain's earlier: mean of 3, beyond the noise": _method(averaged=3, beyond_noise=True, **FACTORS),
    "PBT, Ray's, beyond the noise": _method(beyond_noise=True, **FACTORS),
    "PBT, Ray's, told the mean of 3": _method(averaged=3, **FACTORS),
    "PBT, Ray's": _method(**FACTORS),
    "PB2, Ray's": _method(name="pb2"),
}
