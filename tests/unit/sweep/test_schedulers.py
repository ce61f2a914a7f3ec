"""Who goes on, and who is replaced: Ray Tune's rules, and our PBT, which looks at the noise."""

import math
from typing import Any

import pytest

from bigtrain.core.config import ConfigError, parse_config
from bigtrain.sweep.event_log import Trial
from bigtrain.sweep.metric import Direction, TrialScore, mean_score
from bigtrain.sweep.ray_rules import ASHA, MedianStopping, RayRule
from bigtrain.sweep.rule import Rule
from bigtrain.sweep.schedulers import PBT

LOWER = Direction()


def trials(*curves: list[float], error: float = 0.1) -> dict[int, Trial]:
    """Trials with a score each 1,000 images."""
    return {
        number: Trial(number, {}, 0, None, {1000 * k: TrialScore(1000 * k, v, error) for k, v in enumerate(curve, 1)})
        for number, curve in enumerate(curves)
    }


def reason_to_stop(scheduler: Rule, population: dict[int, Trial], number: int) -> str | None:
    last = population[number].last
    assert last is not None
    return scheduler.reason_to_stop(population[number], last, population, LOWER, 100.0)


def test_asha_lets_one_in_so_many_go_on() -> None:
    asha = ASHA(kind="asha", grace_kimg=1, reduction=3)
    population = trials([10], [20], [30], [40])
    assert reason_to_stop(asha, population, 0) is None
    assert [reason_to_stop(asha, population, number) is None for number in (2, 3)] == [False, False]
    assert reason_to_stop(asha, population, 3) == "Ray Tune's async_hyperband stops it at 1 kimg"


def test_asha_looks_at_rungs_alone() -> None:
    asha = ASHA(kind="asha", grace_kimg=1, reduction=2)
    assert reason_to_stop(asha, trials([10, 9, 8], [10, 9, 30]), 1) is None  # rungs are 1, 2, 4
    assert reason_to_stop(asha, trials([10, 9, 8, 7], [10, 9, 8, 30]), 1) is not None


def test_asha_stops_what_is_not_a_number() -> None:
    asha = ASHA(kind="asha", grace_kimg=1)
    assert reason_to_stop(asha, trials([10], [math.nan]), 1) is not None
    assert reason_to_stop(asha, trials([math.nan], [10]), 1) is None


def test_rays_median_stops_what_is_worse() -> None:
    median = MedianStopping(kind="median", grace_kimg=1, least=3)
    assert reason_to_stop(median, trials([10, 8], [12, 10], [14, 12], [30, 20]), 3) is not None
    assert reason_to_stop(median, trials([10, 8], [12, 10], [14, 12], [30, math.nan]), 3) is not None
    assert reason_to_stop(median, trials([10, 8], [12, 10], [14, 12], [11.5, 9]), 3) is None
    assert reason_to_stop(median, trials([10, 8], [12, 10], [30, 20]), 2) is None  # too few others


def ray_rule(name: str, **arguments: Any) -> RayRule:
    return parse_config(RayRule, {"kind": "ray", "name": name, "args": arguments}, source="test")


def test_rays_rules_are_known_by_name() -> None:
    asha = ray_rule("async_hyperband", grace_period=1, reduction_factor=3)
    population = trials([10], [20], [30], [40])
    assert reason_to_stop(asha, population, 0) is None
    assert "Ray Tune's async_hyperband stops it at 1 kimg" in str(reason_to_stop(asha, population, 3))
    higher = asha.reason_to_stop(population[3], population[3].scores[1000], population, Direction(maximize=True), 100.0)
    assert higher is None
    assert reason_to_stop(asha, trials([10, 9], [11, math.nan]), 0) is None


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("pb2", {}, "input should be 'async_hyperband'"),
        ("async_hyperband", {"grace": 1}, "args: async_hyperband has no 'grace'; it has max_t, grace_period"),
        ("async_hyperband", {"grace_period": -1}, "args: async_hyperband rejects them: grace_period must be positive"),
    ],
)
def test_what_ray_would_refuse_is_one_line(name: str, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        ray_rule(name, **arguments)


def test_pbt_replaces_the_worst_by_the_best_beyond_the_noise() -> None:
    pbt = PBT(kind="pbt", interval_kimg=2, evaluations=2)
    population = trials([9, 8], [19, 20], [14, 14], [50, 30])
    standings = {number: pbt.stretch_score(trial, 0, 2000) for number, trial in population.items()}
    assert standings[3].value == 40
    assert pbt.exploits(standings, LOWER, [0.9, 0.9]) == {3: 0}
    noisy = {number: TrialScore(2000, one.value, 20.0) for number, one in standings.items()}
    assert pbt.exploits(noisy, LOWER, [0.9, 0.9]) == {}
    assert pbt.exploits(standings, Direction(maximize=True), [0.9, 0.9]) == {0: 3}


def test_pbt_boundaries_leave_the_end_out() -> None:
    assert PBT(kind="pbt", interval_kimg=2).boundaries(8) == [2000, 4000, 6000]
    assert PBT(kind="pbt", interval_kimg=2).boundaries(7) == [2000, 4000, 6000]


def test_a_mean_over_seeds_knows_how_far_they_lie_apart() -> None:
    assert mean_score([TrialScore(1, 10, 3.0), TrialScore(1, 10, 4.0)]).error == 2.5
    assert mean_score([TrialScore(1, 10, 0.1), TrialScore(1, 20, 0.1)]).error == 5.0
