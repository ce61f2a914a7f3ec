"""Which scheduler finds the better settings for the same budget: those of Ray Tune, and earlier ones of bigtrain.

    python benchmarks/sweeps.py            # minutes of one core; rewrites the tables of benchmarks/sweeps.md

Three studies. `simulated`: curves of made-up settings, FID(t) = end + (start - end) * t ** -speed, so that slow
starters may be the best in the end. `real`: the curves in benchmarks/sweep_curves.json, of real runs. `population`: PBT
changes a training while it runs, which no fixed curve can show; there, each setting has a rate and a floor to which its
score decays exponentially, which are fitted to the real curves and interpolated between their settings.

In all of them a trial measures a score with a jitter of its training, which no error bar knows, and with the error of
the measurement, which is reported with the score. Workers take settings one after the other; a sweep ends when all
evaluations of its budget are spent, and chooses, of the trials that were trained to the end or as far as any, the one
with the best last score. All schedulers see the same settings and the same noise.
"""

import argparse
import json
import logging
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sweep_populations import CURVES, load_curves, population_table

from bigtrain.evaluation.noise import is_better
from bigtrain.sweep.decisions import Decision, RayDecisions
from bigtrain.sweep.metric import TrialScore, mean_score
from bigtrain.sweep.schedulers import RayScheduler
from bigtrain.sweep.space import Space, Uniform

STEPS, JITTER = 12, 0.02
"""Evaluations of a training, and the standard deviation of the jitter as a share of the score."""
GRACE, REDUCTION = 1.0, 3.0
LINE = Space({"x": Uniform(kind="uniform", low=0.0, high=1.0)}, [], {"x": 0.5})
Array = np.ndarray[Any, Any]
Scores = dict[int, list[TrialScore]]
Study = tuple[Array, Array, Array, int, int]
"""True scores, measured ones and their errors [settings, STEPS]; budget in evaluations; trials at a time."""


class Rule:
    """Decides on the trials of a sweep, after each of their scores; this one lets all of them run to the end."""

    def decide(self, number: int, scores: Scores) -> Decision:
        """Return what becomes of a trial after its newest score."""
        return "continue"

    def may_run(self, number: int) -> bool:
        """Return whether a trial that was paused may run."""
        return True

    def has_stopped(self, number: int) -> bool:
        """Return whether a trial was stopped while it was paused."""
        return False

    def ends(self, number: int) -> None:
        """Take notice of the end of a training."""


class Rays(Rule):
    """A scheduler of Ray Tune, as sweeps of bigtrain use it."""

    def __init__(self, name: str, trials: int, **arguments: Any) -> None:
        config = RayScheduler(kind="ray", name=name, args=arguments)  # type: ignore[arg-type]
        self._decisions = RayDecisions(config, float(STEPS), LINE, trials, 0)
        self._known = -1

    def decide(self, number: int, scores: Scores) -> Decision:
        """See Rule."""
        while self._known < number:
            self._known += 1
            self._decisions.on_event({"event": "trial", "number": self._known, "repeats": None})
        score = scores[number][-1]
        facts = {"samples_seen": score.samples_seen, "value": score.value, "higher_is_better": False}
        self._decisions.on_event({"event": "start", "number": number})
        self._decisions.on_event({"event": "score", "number": number, **facts})
        return self._decisions.decision(number)

    def may_run(self, number: int) -> bool:
        """See Rule."""
        return self._decisions.may_run(number)

    def has_stopped(self, number: int) -> bool:
        """See Rule."""
        return self._decisions.decision(number) == "stop"

    def ends(self, number: int) -> None:
        """See Rule."""
        self._decisions.on_event({"event": "end", "number": number, "state": "complete"})


def beats(one: TrialScore, other: TrialScore) -> bool:
    """Return whether a score is better than another by more than the noise of both."""
    return is_better(one.value, one.error, other.value, other.error, higher=False)


class EarlierASHA(Rule):
    """The ASHA of bigtrain until c477959: who is not worse than the best third by more than the noise goes on."""

    def decide(self, number: int, scores: Scores) -> Decision:
        """See Rule."""
        step = len(scores[number])
        rungs = [round(GRACE * REDUCTION**power) for power in range(4)]
        rivals = [other[step - 1] for other in scores.values() if len(other) >= step]
        better = sum(beats(rival, scores[number][-1]) for rival in rivals)
        return "stop" if step in rungs and better >= max(int(len(rivals) / REDUCTION), 1) else "continue"


class EarlierMedian(Rule):
    """The median rule of bigtrain until c477959, with errors of the averages."""

    def decide(self, number: int, scores: Scores) -> Decision:
        """See Rule."""
        step = len(scores[number])
        others = [mean_score(one[:step]) for key, one in scores.items() if key != number and len(one) >= step]
        if step < 2 * GRACE or len(others) < 3:
            return "continue"
        median = sorted(others, key=lambda one: one.value)[len(others) // 2]
        return "stop" if beats(median, min(scores[number], key=lambda one: one.value)) else "continue"


RULES: dict[str, Callable[[int], Rule]] = {
    "none": lambda trials: Rule(),
    "ASHA, bigtrain's earlier": lambda trials: EarlierASHA(),
    "ASHA, Ray's": lambda trials: Rays("async_hyperband", trials, grace_period=GRACE, reduction_factor=REDUCTION),
    "HyperBand, Ray's": lambda trials: Rays("hyperband", trials, reduction_factor=REDUCTION),
    "HyperBand for BOHB, Ray's": lambda trials: Rays("hb_bohb", trials, reduction_factor=REDUCTION),
    "median, bigtrain's earlier": lambda trials: EarlierMedian(),
    "median, Ray's": lambda trials: Rays("median_stopping_rule", trials, grace_period=2 * GRACE),
}


@dataclass(frozen=True)
class Outcome:
    """What a sweep has found.

    Attributes:
        regret: how much worse the chosen setting is in the end than the best one, as a share of its score.
        best: whether it chose the best of all settings.
        trials: trials that were started.
    """

    regret: float
    best: bool
    trials: int


def sweep(rule: Rule, true: Array, seen: Array, error: Array, budget: int, workers: int) -> Outcome:
    """Run a sweep over settings [settings, STEPS], `workers` at a time, until `budget` evaluations are spent."""
    scores: Scores = {}
    running: list[int] = []
    paused: list[int] = []
    spent = 0
    while spent < budget:
        paused = [number for number in paused if not rule.has_stopped(number)]
        for number in [one for one in paused if rule.may_run(one)][: workers - len(running)]:
            paused.remove(number)
            running.append(number)
        while len(running) < workers and len(scores) < len(true):
            running.append(len(scores))
            scores[running[-1]] = []
        if not running:
            break
        for number in list(running):
            at = len(scores[number])
            scores[number].append(TrialScore(1000 * (at + 1), float(seen[number, at]), float(error[number, at])))
            spent += 1
            decision = rule.decide(number, scores)
            if at + 1 == STEPS:
                rule.ends(number)
            if at + 1 == STEPS or decision != "continue":
                running.remove(number)
            if at + 1 < STEPS and decision == "pause":
                paused.append(number)
    longest = max(len(one) for one in scores.values())
    whole = [number for number, one in scores.items() if len(one) == longest]
    chosen = min(whole, key=lambda number: scores[number][-1].value)
    best = float(true[:, -1].min())
    return Outcome(float(true[chosen, -1]) / best - 1, bool(true[chosen, -1] == best), len(scores))


def simulated(generator: np.random.Generator, noise: float) -> Study:
    """Return the true and the measured scores of 36 settings, their errors, and a budget of 12 trainings."""
    settings = 36
    end, speed = 10 * generator.lognormal(0, 0.35, settings), generator.uniform(0.4, 1.6, settings)
    start = 150 * generator.lognormal(0, 0.2, settings)
    steps = np.arange(1, STEPS + 1)
    true = end[:, None] + (start - end)[:, None] * (1.0 + steps) ** (-speed[:, None] * 1.5)
    jitter, measured = generator.standard_normal((2, settings, STEPS))
    seen = true * (1 + JITTER * jitter + noise * measured)
    return true, seen, noise * seen, 12 * STEPS, 4


def real(generator: np.random.Generator, factor: float) -> Study:
    """Return the real curves in random order, measured again with `factor` times their errors, and half as budget."""
    curves = load_curves()
    order = generator.permutation(len(curves.fid))
    true, error = curves.fid[order], factor * curves.error[order]
    return true, true + error * generator.standard_normal(true.shape), error, len(order) // 2 * STEPS, 2


def jitter_of_seeds() -> str:
    """Return how far the last scores of runs with the same setting and another seed lie apart."""
    by_setting: dict[int, list[float]] = {}
    for one in json.loads(CURVES.read_text())["curves"]:
        by_setting.setdefault(one["setting"], []).append(one["fid"][-1])
    pairs = [abs(a - b) / ((a + b) / 2) for a, b in (one for one in by_setting.values() if len(one) == 2)]
    return f"{np.sqrt(np.mean(np.square(pairs)) / 2):.1%} ({len(pairs)} pairs)" if pairs else "not measured"


def table(
    study: Callable[[np.random.Generator, float], Study],
    noises: Sequence[float],
    count: int,
    *,
    unit: str,
) -> list[str]:
    """Return the lines of a table with all rules."""
    lines = [
        "| scheduler | noise | chose the best | regret (mean ± s.e.) | median regret | settings tried |",
        "|---|---|---|---|---|---|",
    ]
    for noise in noises:
        for name, make in RULES.items():
            found = []
            for number in range(count):
                data = study(np.random.default_rng([7, number]), noise)
                found.append(sweep(make(len(data[0])), *data))
            regrets = np.array([one.regret for one in found])
            share, tried = np.mean([one.best for one in found]), np.mean([one.trials for one in found])
            error = regrets.std(ddof=1) / math.sqrt(count)
            shown = f"{noise:.0%}" if unit == "%" else f"{noise:g} {unit}"
            lines.append(
                f"| {name} | {shown} | {share:.1%} | {regrets.mean():.1%} ± {error:.1%} "
                f"| {np.median(regrets):.1%} | {tried:.1f} |"
            )
            print(lines[-1], flush=True)
    return lines


def main() -> None:
    """Run the studies, and write their tables into the page beside this file."""
    logging.getLogger("ray").setLevel(logging.ERROR)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=400)
    parser.add_argument("--studies", nargs="+", default=["simulated", "real", "population"])
    options = parser.parse_args()
    page, count = Path(__file__).with_suffix(".md"), options.repetitions
    studies: dict[str, Callable[[], list[str]]] = {
        "simulated": lambda: table(simulated, (0.01, 0.03, 0.1), count, unit="%"),
        "real": lambda: table(real, (1.0, 4.0), count, unit="x"),
        "population": lambda: population_table(load_curves(), count),
    }
    print(f"jitter of seeds: {jitter_of_seeds()}")
    for name in options.studies:
        block = f"<!-- {name} -->\n" + "\n".join(studies[name]()) + "\n\n"
        text = page.read_text()
        page.write_text(re.sub(rf"<!-- {name} -->\n.*?\n\n", lambda found, block=block: block, text, flags=re.DOTALL))


if __name__ == "__main__":
    main()
