"""Which rule that stops trials early finds the better settings for the same budget: of Ray Tune's own.

    python benchmarks/sweeps.py            # seconds of one core; rewrites the table of benchmarks/sweeps.md

Simulated sweeps. A setting has a curve of true scores (lower is better), FID(t) = end + (start - end) * t ** -speed, so
that slow starters may be the best in the end. A trial measures it with a jitter of its training, which no error bar
knows, and with the error of the measurement, which is reported with the score as bigtrain does. Workers take settings
one after the other; the sweep ends when all evaluations of the budget are spent, and picks the trial that was trained
to the end, or as far as any, with the best last score. All rules see the same settings and the same noise.
"""

import argparse
import math
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from bigtrain.sweep.event_log import Trial
from bigtrain.sweep.metric import TrialScore

SETTINGS, STEPS, BUDGET, WORKERS, JITTER = 36, 12, 144, 4, 0.02
"""Settings that may be tried, evaluations of a training, and of a sweep (12 trainings), trials at once."""
GRACE, REDUCTION = 1.0, 3.0
Rule = Callable[[Trial, TrialScore, dict[int, Trial]], bool]


def rays(name: str, **arguments: Any) -> Callable[[], Rule]:
    """Return a rule of Ray Tune, which is told the scores alone."""
    from ray.tune.schedulers import TrialScheduler, create_scheduler

    def make() -> Rule:
        scheduler = create_scheduler(name, time_attr="kimg", metric="score", mode="min", **arguments)
        stubs: dict[int, SimpleNamespace] = {}
        controller = SimpleNamespace(get_live_trials=list)

        def stops(trial: Trial, score: TrialScore, trials: dict[int, Trial]) -> bool:
            if trial.number not in stubs:
                stubs[trial.number] = _Stub(str(trial.number))
                scheduler.on_trial_add(controller, stubs[trial.number])
            told = {"kimg": score.kimg, "score": score.value}
            answer = scheduler.on_trial_result(controller, stubs[trial.number], told)
            return answer == TrialScheduler.STOP and score.kimg < STEPS

        return stops

    return make


class _Stub(SimpleNamespace):
    """What Ray's rules need of a trial."""

    def __init__(self, number: str) -> None:
        super().__init__(trial_id=number)

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(self.trial_id)


def rules() -> dict[str, Callable[[], Rule]]:
    """Return the rules by name."""
    asha = {"grace_period": GRACE, "reduction_factor": REDUCTION, "max_t": STEPS}
    median = {"grace_period": 2 * GRACE}
    return {
        "none": lambda: lambda trial, score, trials: False,
        "ASHA, Ray's": rays("asynchyperband", **asha),
        "median, Ray's": rays("medianstopping", **median),
    }


def sweep(rule: Rule, generator: np.random.Generator, noise: float) -> tuple[float, bool, int]:
    """Run one sweep; return its regret, whether it picked the best of all settings, and how many it tried."""
    end, speed = 10 * generator.lognormal(0, 0.35, SETTINGS), generator.uniform(0.4, 1.6, SETTINGS)
    start = 150 * generator.lognormal(0, 0.2, SETTINGS)
    steps = np.arange(1, STEPS + 1)
    true = end[:, None] + (start - end)[:, None] * (1.0 + steps) ** (-speed[:, None] * 1.5)
    jitter, measured = generator.standard_normal((2, SETTINGS, STEPS))
    seen = true * (1 + JITTER * jitter + noise * measured)
    trials: dict[int, Trial] = {}
    running: list[int] = []
    spent = 0
    while spent < BUDGET:
        while len(running) < WORKERS and len(trials) < SETTINGS:
            trials[len(trials)] = Trial(len(trials), {}, 0)
            running.append(len(trials) - 1)
        if not running:
            break
        for number in list(running):
            trial, at = trials[number], len(trials[number].scores)
            score = TrialScore(1000 * (at + 1), float(seen[number, at]), float(noise * seen[number, at]))
            trial.scores[score.samples_seen] = score
            spent += 1
            if rule(trial, score, trials) or at + 1 == STEPS:
                running.remove(number)
    longest = max(len(trial.scores) for trial in trials.values())
    whole = [trial for trial in trials.values() if len(trial.scores) == longest]
    picked = min(whole, key=lambda trial: trial.scores[1000 * longest].value).number
    best = float(true[:, -1].min())
    return float(true[picked, -1]) / best - 1, bool(true[picked, -1] == best), len(trials)


def main() -> None:
    """Measure, and write the table into the page beside this file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=400)
    count = parser.parse_args().repetitions
    lines = [
        "| rule | noise | picked the best | regret (mean ± s.e.) | median regret | settings tried |",
        "|---|---|---|---|---|---|",
    ]
    for noise in (0.01, 0.03, 0.1):
        for name, make in rules().items():
            found = [sweep(make(), np.random.default_rng([7, number]), noise) for number in range(count)]
            regrets = np.array([regret for regret, _, _ in found])
            share = np.mean([best for _, best, _ in found])
            error = regrets.std(ddof=1) / math.sqrt(count)
            tried = np.mean([number for _, _, number in found])
            lines.append(
                f"| {name} | {noise:.0%} | {share:.1%} | {regrets.mean():.1%} ± {error:.1%} "
                f"| {np.median(regrets):.1%} | {tried:.1f} |"
            )
            print(lines[-1], flush=True)
    page = Path(__file__).with_suffix(".md")
    if page.is_file():
        text = re.sub(r"\| rule \|.*?\n\n", "\n".join(lines) + "\n\n", page.read_text(), flags=re.DOTALL)
        page.write_text(text)


if __name__ == "__main__":
    main()
