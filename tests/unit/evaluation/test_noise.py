import pytest
import torch
from torch import Tensor

from bigtrain.evaluation.metrics.fid import frechet_distance
from bigtrain.evaluation.metrics.kid import KID, kernel_distances
from bigtrain.evaluation.noise import fid_influence, interval, is_better, kid_influence
from bigtrain.evaluation.statistics.moments import Moments

FEATURES, RUNS = 32, 30
DECAY = torch.exp(-torch.arange(FEATURES) / 12.0).double().sqrt()


def draw(count: int, seed: int, scale: float = 1.0, shift: float = 0.0) -> Tensor:
    """Draw features that are no Gaussian."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, FEATURES, generator=generator).double().clamp(min=-1.3) * DECAY * scale + shift


def moments(samples: Tensor) -> Moments:
    return Moments(len(samples), samples.mean(0), samples.t().cov())


def kernel_distance(x: Tensor, y: Tensor) -> float:
    within, other, across = ((a @ b.t() / FEATURES + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
    n, m = len(x), len(y)
    unbiased = (within.sum() - within.trace()) / (n * (n - 1)) + (other.sum() - other.trace()) / (m * (m - 1))
    return float(unbiased - 2 * across.mean())


REAL = draw(2000, 0)
FAKES = [[draw(count, seed, 1.1, 0.05) for seed in range(1, RUNS)] for count in (24, 300)]


@pytest.mark.parametrize("fakes", FAKES, ids=["fewer samples than features", "more"])
@pytest.mark.parametrize("metric", ["fid", "kid"])
def test_the_interval_covers_what_other_latents_give(fakes: list[Tensor], metric: str) -> None:
    reference = moments(REAL)
    values, intervals = [], []
    for x in fakes:
        if metric == "fid":
            value, influence = frechet_distance(reference, moments(x)), fid_influence(reference, moments(x), x)
        else:
            value, influence = kernel_distance(x, REAL[:500]), kid_influence(REAL[:500], x)
        values.append(value)
        intervals.append(interval(value, [influence], len(x)))
    true = torch.tensor(values).std()
    told = torch.tensor([one.error for one in intervals]).mean()
    assert 0.8 * true < told < 1.7 * true
    mean = sum(values) / len(values)
    assert sum(one.low <= mean <= one.high for one in intervals) >= 0.88 * len(values)
    others = [one.low <= values[j] <= one.high for i, one in enumerate(intervals) for j in range(len(values)) if i != j]
    assert 0.75 <= sum(others) / len(others) < 0.95, "another draw has noise of its own: the interval is not about it"


def test_the_influence_is_the_derivative_of_the_distance() -> None:
    reference, x = moments(REAL), draw(500, 9, 1.2, 0.1)
    mean = x.mean(0)
    plain = Moments(500, mean, (x - mean).t() @ (x - mean) / 500)  # a derivative by weights knows no N - 1
    influence = fid_influence(reference, plain, x)

    def weighted(weights: Tensor) -> float:
        mean = (weights[:, None] * x).sum(0) / weights.sum()
        centred = (x - mean) * weights[:, None].sqrt()
        return frechet_distance(reference, Moments(0, mean, centred.t() @ centred / weights.sum()))

    tilt = torch.randn(500, generator=torch.Generator().manual_seed(1)).double()
    step = 1e-5
    measured = (weighted(1 + step * tilt) - weighted(1 - step * tilt)) / (2 * step)
    assert float(tilt @ (influence - influence.mean())) / 500 == pytest.approx(measured, rel=1e-5)


def test_a_part_of_the_samples_tells_the_noise_of_all() -> None:
    reference, x = moments(REAL), draw(3000, 5, 1.1)
    influence = fid_influence(reference, moments(x), x)
    whole, part = interval(1.0, [influence], 3000), interval(1.0, [influence[:600]], 3000)
    assert part.error == pytest.approx(whole.error, rel=0.15)
    two = interval(1.0, [influence[:1500], influence[1500:]], 1500)
    assert two.error == pytest.approx(whole.error, rel=0.15)


def test_a_difference_within_the_noise_is_none() -> None:
    assert is_better(10.0, 0.3, 11.0, 0.3, higher=False)
    assert not is_better(10.0, 0.3, 10.8, 0.3, higher=False)
    assert not is_better(11.0, 0.3, 10.0, 0.3, higher=False)
    assert is_better(11.0, 0.3, 10.0, 0.3, higher=True)
    assert not is_better(float("nan"), 0.0, 10.0, 0.0, higher=False)


def test_the_choice_of_subsets_is_a_part_of_kids_noise(alone: None) -> None:
    """With many images the subsets, which have 1,000, are what a KID varies by."""
    values, errors, images_alone = [], [], []
    for seed in range(1, RUNS):
        x = draw(2000, seed, 1.05, 0.02)
        found = kernel_distances(REAL, x, subsets=10, size=50)
        influence, own = kid_influence(REAL[:500], x), float(found.std(correction=0)) / 10**0.5
        values.append(float(found.mean()))
        errors.append(interval(0.0, [influence], len(x), more=own).error)
        images_alone.append(interval(0.0, [influence], len(x)).error)
    true = torch.tensor(values).std()
    assert torch.tensor(images_alone).mean() < 0.5 * true
    assert 0.8 * true < torch.tensor(errors).mean() < 1.3 * true
    assert KID.own_error({"kid": 1.0, "kid_std": 2.0}) == pytest.approx(0.2)
