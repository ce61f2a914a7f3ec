from dataclasses import replace

import pytest

from bigtrain.core.state import Progress
from bigtrain.evaluation.best import Best
from bigtrain.evaluation.noise import Interval
from bigtrain.evaluation.protocol import Score
from tests.unit.evaluation.test_protocol import PROTOCOL


def fid(value: float, error: float = 0.2) -> dict[str, Score]:
    return {"eval/fid1k": Score(value, PROTOCOL, noise=Interval(value - 2 * error, value + 2 * error, error))}


def replaced(best: Best, values: list[dict[str, Score]]) -> list[int]:
    """Return the places, in thousands of images, at which the best was replaced."""
    progress, places = Progress(100_000, 1000), []
    for scores in values:
        progress.advance()
        if best.update(scores, progress):
            places.append(progress.samples_seen // 1000)
    return places


def test_noise_replaces_nothing_and_small_steps_add_up() -> None:
    best = Best("fid")
    falling = [fid(20 - 0.2 * step) for step in range(10)]
    assert replaced(best, [fid(20.0), fid(19.7), fid(20.3), fid(19.0)]) == [1, 4]
    assert replaced(Best("fid"), falling) == [1, 4, 7, 10]


def test_what_is_no_number_or_another_value_is_never_the_best() -> None:
    best = Best("fid")
    other = {"eval/is1k": Score(3.0, replace(PROTOCOL, metric="inception_score (10 splits)"), higher_is_better=True)}
    assert replaced(best, [fid(float("nan")), other, fid(20.0), fid(float("nan")), other]) == [3]
    assert replaced(Best("inception_score"), [fid(1.0), other]) == [2]
    assert replaced(Best(None), [other]) == [1]


def test_the_best_survives_a_checkpoint_and_gives_way_to_another_protocol() -> None:
    best, resumed = Best("fid"), Best("fid")
    replaced(best, [fid(20.0)])
    resumed.load_state_dict(best.state_dict())
    assert (resumed.score, resumed.samples_seen) == (best.score, 1000)
    assert replaced(resumed, [fid(19.9)]) == []
    larger = {"eval/fid2k": Score(25.0, replace(PROTOCOL, samples=2000))}
    assert replaced(resumed, [larger]) == [1]
    empty = Best("fid")
    empty.load_state_dict(Best("fid").state_dict())
    assert empty.score is None


@pytest.mark.parametrize("seeds", [1, 4])
def test_a_mean_over_seeds_is_less_noisy_and_says_so(seeds: int) -> None:
    from bigtrain.evaluation.several_seeds import over_seeds

    (mean,) = over_seeds([fid(20.0 + seed) for seed in range(seeds)]).values()
    assert mean.value == pytest.approx(20 + (seeds - 1) / 2)
    assert mean.error == pytest.approx(0.2 / seeds**0.5)
    assert mean.protocol.seeds == seeds
