"""Ray Tune's searchers: made anew for each point, they propose as if they had gone on."""

import importlib.util
import math
import statistics
from typing import Any

import pytest
from pydantic import ValidationError

from bigtrain.sweep.event_log import Trial
from bigtrain.sweep.metric import Direction, TrialScore
from bigtrain.sweep.searchers import RaySearch
from bigtrain.sweep.space import Choice, Constraint, LogUniform, Point, Ratio, Space, Uniform

NEEDS = {"optuna": "optuna", "hyperopt": "hyperopt", "bohb": "hpbandster"}
INSTALLED = [name for name, module in NEEDS.items() if importlib.util.find_spec(module)]
NUMBERS = {
    "g.lr": LogUniform(kind="log_uniform", low=1e-5, high=1e-1),
    "d.lr": Ratio(kind="ratio", of="g.lr", low=0.5, high=4),
    "beta": Uniform(kind="uniform", low=0.0, high=0.9),
}
BASE: Point = {"g.lr": 1.0, "d.lr": 1e-3, "beta": 0.5, "mode": "a"}  # g.lr lies outside of the space
CONSTRAINTS = [Constraint("d.lr >= g.lr")]


def search(name: str, space: Space, trials: int, seed: int = 0, **args: Any) -> list[Trial]:
    """Search for a learning rate of 1e-3 and a beta of 0.6; the trial before the newest has no score yet."""
    searcher, found = RaySearch(kind="ray", name=name, args=args), list[Trial]()  # type: ignore[arg-type]
    for number in range(trials):
        known = {trial.number: trial for trial in found}
        point: Point | None = space.base_point()
        if number:
            point = searcher.point(number, space, known, Direction(), seed=seed)
            assert point == searcher.point(number, space, known, Direction(), seed=seed)
        assert point is not None
        if len(found) > 1:
            lr, beta = float(found[-2].point["g.lr"]), float(found[-2].point["beta"])  # type: ignore[arg-type]
            found[-2].scores[1] = TrialScore(1, abs(math.log10(lr / 1e-3)) + abs(beta - 0.6))
        found.append(Trial(number, point, 0))
    return found


@pytest.mark.parametrize("name", INSTALLED)
def test_it_looks_where_scores_are_good(name: str) -> None:
    space = Space(NUMBERS, CONSTRAINTS, BASE)
    found = search(name, space, 25, **({"n_initial_points": 5} if name == "hyperopt" else {}))
    assert all(space.allows(trial.point) for trial in found[1:])
    late = [score.value for trial in found[-9:-2] for score in trial.scores.values()]
    early = [score.value for trial in found[1:8] for score in trial.scores.values()]
    assert statistics.mean(late) < 0.8 * statistics.mean(early)


@pytest.mark.parametrize("name", INSTALLED)
def test_choices_and_conditions(name: str) -> None:
    choice = Choice(kind="choice", values=("a", "b"))
    beta = Uniform(kind="uniform", low=0.0, high=0.9, when={"mode": "b"})
    space = Space({"g.lr": NUMBERS["g.lr"], "beta": beta, "mode": choice}, [], BASE)
    searcher = RaySearch(kind="ray", name=name)  # type: ignore[arg-type]
    trials = {0: Trial(0, space.base_point(), 0)}
    for number in range(1, 9):
        point = searcher.point(number, space, trials, Direction(maximize=True), seed=1)
        assert point is not None
        trials[number] = Trial(number, {**space.base_point(), **point}, 0)
        trials[number].scores[1] = TrialScore(1, float("nan") if number == 2 else 1.0 * (point["mode"] == "b"))
        assert ("beta" in point) == (point["mode"] == "b")
        assert {type(value) for value in point.values()} <= {float, str}  # none of NumPy's, for the event log


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"name": "optuna", "args": {"n_startup": 3}}, "args: optuna has no 'n_startup'; it has sampler, study_name"),
        ({"name": "optuna", "args": {"sampler": "tpe"}}, "optuna cannot be used: "),
        ({"name": "hebo"}, "hebo cannot be used: HEBO must be installed!"),
        ({"name": "skopt"}, "Input should be 'optuna', 'hyperopt'"),
    ],
)
def test_what_cannot_be_used_is_one_line(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        RaySearch(kind="ray", **settings)


@pytest.mark.skipif("bohb" in INSTALLED, reason="hpbandster is installed")
def test_bohb_names_what_it_needs() -> None:
    with pytest.raises(ValidationError, match=r"HpBandSter must be installed! .* `pip install hpbandster ConfigSpace`"):
        RaySearch(kind="ray", name="bohb")


@pytest.mark.slow  # it needs tests/slow-requirements.txt
def test_bohb_uses_the_scores_of_the_largest_budget() -> None:
    """Early scores are misleading: by them, a high beta is good. Six of the trials have later ones as well."""
    space = Space({"beta": NUMBERS["beta"]}, [], BASE)
    trials = {number: Trial(number, {"beta": number / 20}, 0) for number in range(18)}
    for number, trial in trials.items():
        trial.scores[1000] = TrialScore(1000, 1.0 - number / 20)
        if number % 3 == 0:
            trial.scores[4000] = TrialScore(4000, number / 20)
    searcher = RaySearch(kind="ray", name="bohb", args={"bohb_config": {"random_fraction": 0.0}})
    found = [searcher.point(18, space, trials, Direction(), seed=seed) for seed in range(8)]
    assert statistics.mean(float((point or {})["beta"]) for point in found) < 0.3  # type: ignore[arg-type]
    early = {number: Trial(number, trial.point, 0) for number, trial in trials.items()}
    for number, trial in early.items():
        trial.scores[1000] = trials[number].scores[1000]
    found = [searcher.point(18, space, early, Direction(), seed=seed) for seed in range(8)]
    assert statistics.mean(float((point or {})["beta"]) for point in found) > 0.6  # type: ignore[arg-type]
