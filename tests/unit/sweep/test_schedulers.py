"""Who goes on, and who is replaced: Ray Tune's schedulers, which are told the events of a sweep."""

import math
from collections.abc import Sequence
from typing import Any

import pytest

from bigtrain.core.config import ConfigError, parse_config
from bigtrain.sweep.decisions import Decision, RayDecisions
from bigtrain.sweep.event_log import Event
from bigtrain.sweep.metric import TrialScore, mean_score
from bigtrain.sweep.schedulers import ASHA, PBT, MedianStopping, RayScheduler, Scheduler
from bigtrain.sweep.space import Choice, Constraint, LogUniform, Point, Ratio, Space

LR = LogUniform(kind="log_uniform", low=1e-5, high=1e-1)
SPACE = Space({"lr": LR, "d": Ratio(kind="ratio", of="lr", low=0.5, high=4)}, [], {"lr": 1e-3, "d": 1e-3})


def ray(name: str, **arguments: Any) -> RayScheduler:
    return parse_config(RayScheduler, {"kind": "ray", "name": name, "args": arguments}, source="test")


def start(scheduler: Scheduler, trials: int, total_kimg: float = 100.0, space: Space = SPACE) -> RayDecisions:
    """Return the decisions on a sweep that has begun with all of its trials."""
    assert scheduler.rays is not None
    decisions = RayDecisions(scheduler.rays, total_kimg, space, trials, seed=0)
    for number in range(trials):
        decisions.on_event({"event": "trial", "number": number, "repeats": None})
    return decisions


def scored(number: int, kimg: float, value: float, *, higher: bool = False) -> Event:
    facts = {"samples_seen": round(1000 * kimg), "value": value, "higher_is_better": higher}
    return {"event": "score", "number": number, **facts}


def decide(scheduler: Scheduler, *curves: list[float], higher: bool = False) -> list[Decision]:
    """Tell whole curves, with a score each 1,000 images, one trial after the other; return what becomes of each."""
    decisions = start(scheduler, len(curves))
    for number, curve in enumerate(curves):
        for kimg, value in enumerate(curve, 1):
            decisions.on_event(scored(number, kimg, value, higher=higher))
    return [decisions.decision(number) for number in range(len(curves))]


def test_asha_lets_one_in_so_many_go_on() -> None:
    asha = ASHA(kind="asha", grace_kimg=1, reduction=3)
    assert decide(asha, [40], [10], [29], [35]) == ["continue", "continue", "stop", "stop"]
    assert decide(asha, [40], [10], [29], [35], higher=True) == ["continue", "stop", "stop", "continue"]
    assert decide(ray("async_hyperband", grace_period=1, reduction_factor=3), [10], [20]) == ["continue", "stop"]


def test_asha_looks_at_rungs_alone() -> None:
    asha = ASHA(kind="asha", grace_kimg=1, reduction=2)
    assert decide(asha, [10, 9, 8], [9, 8, 30])[1] == "continue"  # rungs are 1, 2, 4
    assert decide(asha, [10, 9, 8, 7], [9, 8, 7, 30])[1] == "stop"


def test_asha_stops_what_is_not_a_number() -> None:
    asha = ASHA(kind="asha", grace_kimg=1)
    assert decide(asha, [10], [math.nan]) == ["continue", "stop"]
    assert decide(asha, [math.nan], [10]) == ["continue", "continue"]


def test_the_median_rule_stops_what_is_worse() -> None:
    median = MedianStopping(kind="median", grace_kimg=1, least=3)
    assert decide(median, [10, 8], [12, 10], [14, 12], [30, 20])[3] == "stop"
    assert decide(median, [10, 8], [12, 10], [14, 12], [30, math.nan])[3] == "stop"
    assert decide(median, [10, 8], [12, 10], [14, 12], [11.5, 9])[3] == "continue"
    assert decide(median, [10, 8], [12, 10], [30, 20])[2] == "continue"  # too few others


def play_hyperband(decisions: RayDecisions, events: list[Event]) -> dict[int, int]:
    """Train nine trials, best ones last, as HyperBand allows; return how many scores each got."""
    reached, waiting = dict.fromkeys(range(9), 0), set(range(9))
    while waiting:
        before = sum(reached.values())
        for number in sorted(waiting):
            if decisions.may_run(number):
                if decisions.decision(number) == "pause":
                    events.append({"event": "start", "number": number})
                    decisions.on_event(events[-1])
                reached[number] += 1
                events.append(scored(number, reached[number], 100.0 - number - reached[number]))
                decisions.on_event(events[-1])
                if reached[number] == 9:
                    events.append({"event": "end", "number": number, "state": "complete"})
                    decisions.on_event(events[-1])
            waiting -= {one for one in waiting if decisions.decision(one) == "stop"}
        assert sum(reached.values()) > before
    return reached


def test_hyperband_pauses_trials_and_stops_the_worse_third() -> None:
    """With max_t 9 and a factor of 3, the first bracket has 3 trials, and the second 5, which halt after 3 kimg."""
    events: list[Event] = []
    decisions = start(ray("hyperband"), 9, total_kimg=9.0)
    assert play_hyperband(decisions, events) == {**dict.fromkeys(range(9), 9), 3: 3, 4: 3, 5: 3}
    again = start(ray("hyperband"), 9, total_kimg=9.0)
    for event in events:
        again.on_event(event)
    assert [again.decision(number) for number in range(9)] == ["stop"] * 9
    middle = start(ray("hyperband"), 9, total_kimg=9.0)
    for event in events[:25]:  # of the third scores, those of trials 7 and 8 are missing
        middle.on_event(event)
    assert [number for number in range(9) if middle.decision(number) == "pause"] == [3, 4, 5, 6]
    assert not any(middle.may_run(number) for number in (3, 4, 5, 6))


def play_three_at_a_time(decisions: RayDecisions, trials: int, total: int, failing: Sequence[int] = ()) -> list[str]:
    """Train trials, best ones last, three at a time; return for each how far it came, and its state in the end."""
    reached, states = [0] * trials, ["new"] * trials
    for _ in range(200):
        for number in range(trials):
            if states[number] == "pause" and decisions.decision(number) == "stop":
                states[number] = "stop"
            can_run = states[number] == "new" or (states[number] == "pause" and decisions.may_run(number))
            if can_run and states.count("continue") < 3:
                states[number] = "continue"
                decisions.on_event({"event": "start", "number": number})
        for number in [number for number in range(trials) if states[number] == "continue"]:
            if reached[number] == 1 and number in failing:
                states[number] = "failed"
                decisions.on_event({"event": "end", "number": number, "state": "failed"})
                continue
            reached[number] += 1
            decisions.on_event(scored(number, reached[number], 100.0 - number))
            states[number] = "complete" if reached[number] == total else decisions.decision(number)
            if states[number] == "complete":
                decisions.on_event({"event": "end", "number": number, "state": "complete"})
    return [f"{state} {kimg}" for state, kimg in zip(states, reached, strict=True)]


def test_the_hyperband_of_bohb_begins_with_the_largest_bracket() -> None:
    """With max_t 9 and a factor of 3 it has nine trials: three of them continue after 1 kimg, one after 3 kimg."""
    bohb = ray("hb_bohb")
    ends = play_three_at_a_time(start(bohb, 9, total_kimg=9.0), 9, 9)
    assert ends == ["stop 1"] * 6 + ["stop 3"] * 2 + ["complete 9"]
    ends = play_three_at_a_time(start(bohb, 7, total_kimg=9.0), 7, 9)  # two are missing in it
    assert ends == ["stop 1"] * 4 + ["stop 3"] * 2 + ["complete 9"]
    assert bohb.pauses


def test_the_last_rung_of_hyperband_is_the_end_of_training() -> None:
    """Its whole rungs for 40 kimg are 1, 3, 9 and 27 in the largest bracket, where Ray would end the last trial."""
    assert play_three_at_a_time(start(ray("hb_bohb"), 20, total_kimg=40.0), 20, 40)[-2:] == ["stop 9", "complete 40"]


@pytest.mark.parametrize("name", ["hyperband", "hb_bohb"])
def test_hyperband_does_not_wait_for_a_trial_that_has_failed(name: str) -> None:
    decisions = start(ray(name, reduction_factor=2), 10, total_kimg=4.0)
    last = 8 if name == "hyperband" else 3  # of two that were to continue after 1 kimg
    ends = play_three_at_a_time(decisions, 10, 4, failing=[last])
    assert ends[last] == "failed 1"
    assert not {"new", "pause", "continue"} & {end.split()[0] for end in ends}


def points() -> dict[int, Point]:
    return {number: SPACE.draw(str(number)) for number in range(4)}


@pytest.mark.parametrize("name", ["pbt", "pb2"])
def test_rays_pbt_and_pb2_replace_the_worst_by_the_best(name: str) -> None:
    decisions = start(ray(name, perturbation_interval=2), 4)
    again, own = start(ray(name, perturbation_interval=2), 4), points()
    for generation in range(3):
        standings = {n: (own[n], value - generation * n) for n, value in enumerate([30.0, 20.0, math.inf, 25.0])}
        ((number, donor, point),) = decisions.moves(generation, standings)
        assert (number, donor) == (2, 1)
        assert point is not None
        assert SPACE.at(SPACE.coordinates(point)) == point
        record = {
            "event": "generation",
            "index": generation,
            "standings": {str(n): one for n, one in standings.items()},
        }
        decisions.on_event(record)  # it has decided that itself
        if generation < 2:
            again.on_event(record)
    assert again.moves(2, standings) == [(2, 1, point)]
    assert point != own[1]


def test_pbt_is_rays_and_its_points_are_in_the_space() -> None:
    choice = Choice(kind="choice", values=(1, 4, 16))
    space = Space({"lr": LR, "interval": choice}, [Constraint("lr >= 1.0e-3")], {"lr": 1e-3, "interval": 4})
    pbt = PBT(kind="pbt", interval_kimg=2, resample=0.0, factors=(2.0,))
    decisions = start(pbt, 4, space=space)
    standings: dict[int, tuple[Point, float]] = {n: ({"lr": 0.09, "interval": 16}, 1.0 + n) for n in range(4)}
    ((number, donor, point),) = decisions.moves(0, standings)
    assert (number, donor, (point or {})["lr"]) == (3, 0, 0.1)  # not 0.18, which is outside
    assert (point or {})["interval"] in (4, 16)
    low = start(PBT(kind="pbt", interval_kimg=2, resample=0.0, factors=(0.5,)), 4, space=space)
    standings = {n: ({"lr": 1e-3, "interval": 1}, 1.0 + n) for n in range(4)}
    assert low.moves(0, standings) == [(3, 0, None)]  # 5e-4 violates the constraint


def test_boundaries_leave_the_end_out() -> None:
    assert PBT(kind="pbt", interval_kimg=2).boundaries(8) == [2000, 4000, 6000]
    assert PBT(kind="pbt", interval_kimg=2).boundaries(7) == [2000, 4000, 6000]
    assert ray("pbt", perturbation_interval=2, burn_in_period=3).boundaries(8) == [4000, 6000]
    assert ASHA(kind="asha", grace_kimg=1).boundaries(8) == []


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("pbt_replay", {}, "input should be 'async_hyperband'"),
        ("pbt", {}, "args: pbt needs perturbation_interval, in kimg"),
        (
            "pb2",
            {"perturbation_interval": 2, "resample": 1},
            "args: pb2 has no 'resample'; it has perturbation_interval",
        ),
        ("pbt", {"perturbation_interval": 2, "quantile_fraction": 0.7}, "args: pbt rejects them: You must set"),
        ("hyperband", {"max_t": 0.6}, "args: hyperband rejects them: it pauses trials at whole kimg"),
        ("async_hyperband", {"grace": 1}, "args: async_hyperband has no 'grace'; it has max_t, grace_period"),
        ("async_hyperband", {"grace_period": -1}, "args: async_hyperband rejects them: grace_period must be positive"),
    ],
)
def test_what_ray_would_refuse_is_one_line(name: str, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as error:
        ray(name, **arguments)
    assert "\n" not in str(error.value)


def test_a_mean_over_seeds_knows_how_far_they_lie_apart() -> None:
    assert mean_score([TrialScore(1, 10, 3.0), TrialScore(1, 10, 4.0)]).error == 2.5
    assert mean_score([TrialScore(1, 10, 0.1), TrialScore(1, 20, 0.1)]).error == 5.0
