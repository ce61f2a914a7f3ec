"""Metrics of features, against torch-fidelity and against what is known of simple features."""

import math

import numpy as np
import pytest
import torch
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric

from bigtrain.evaluation.errors import EvaluationError
from bigtrain.evaluation.metrics.class_fid import class_distances
from bigtrain.evaluation.metrics.density_coverage import density_coverage
from bigtrain.evaluation.metrics.fid import frechet_distance_of
from bigtrain.evaluation.metrics.inception_score import inception_scores
from bigtrain.evaluation.metrics.kid import kernel_distances
from bigtrain.evaluation.metrics.memorisation import memorisation_rate, nearest_others, new_image_rate
from bigtrain.evaluation.metrics.mmd import gaussian_mmd
from bigtrain.evaluation.metrics.precision_recall import precision_recall
from bigtrain.evaluation.statistics.class_scores import ClassScoreSums
from bigtrain.evaluation.statistics.features import Features

pytestmark = pytest.mark.usefixtures("alone")


def features(count: int, seed: int, scale: float = 1.0) -> torch.Tensor:
    return torch.randn(count, 24, generator=torch.Generator().manual_seed(seed)) * scale


FAKE, REAL = features(403, 1), features(521, 2, 1.1) + 0.1


def test_kid_takes_torch_fidelitys_subsets() -> None:
    theirs = kid_features_to_metric(FAKE.double(), REAL.double(), kid_subsets=10, kid_subset_size=200, verbose=False)
    ours = kernel_distances(REAL, FAKE, 10, 200)
    assert float(ours.mean()) == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-9)
    assert float(ours.std(correction=0)) == pytest.approx(theirs["kernel_inception_distance_std"], rel=1e-9)


def test_inception_score_deals_images_to_splits_as_torch_fidelity_does() -> None:
    sums = ClassScoreSums(24, len(FAKE), torch.device("cpu"))
    for index in torch.randperm(len(FAKE)).split(37):
        sums.add(3 * FAKE[index], index, index)
    theirs = isc_features_to_metric(3 * FAKE)
    ours = inception_scores(sums.over_ranks())
    assert np.mean(ours) == pytest.approx(theirs["inception_score_mean"], rel=1e-12)
    assert np.std(ours) == pytest.approx(theirs["inception_score_std"], rel=1e-9)


def test_precision_and_recall_equal_torch_fidelitys() -> None:
    theirs = prc_features_to_metric(FAKE, REAL, verbose=False)
    assert precision_recall(REAL, FAKE, 3) == pytest.approx((theirs["precision"], theirs["recall"]), rel=1e-6)


@pytest.mark.parametrize(("real", "fake"), [(521, 403), (15, 12), (300, 9)])
def test_frechet_distance_of_features_equals_that_of_their_moments(real: int, fake: int) -> None:
    sides = [fid_features_to_statistics(side.double()) for side in (FAKE[:fake], REAL[:real])]
    theirs = fid_statistics_to_metric(*sides, verbose=False)["frechet_inception_distance"]
    assert frechet_distance_of(REAL[:real], FAKE[:fake]) == pytest.approx(theirs, rel=1e-6)


def test_density_and_coverage_count_balls_one_by_one() -> None:
    between, inside = torch.cdist(FAKE.double(), REAL.double()), torch.cdist(REAL.double(), REAL.double())
    balls = between <= inside.kthvalue(6).values
    expected = float(balls.sum()) / (5 * len(FAKE)), float(balls.any(0).double().mean())
    assert density_coverage(REAL, FAKE, 5) == pytest.approx(expected, rel=1e-12)


def test_mmd_equals_the_mean_of_all_kernels() -> None:
    x, y = (torch.nn.functional.normalize(side.double()) for side in (REAL, FAKE))
    one, other, both = (torch.exp(-(torch.cdist(*pair) ** 2) / 2).mean() for pair in ((x, x), (y, y), (x, y)))
    assert gaussian_mmd(REAL, FAKE, sigma=1.0) == pytest.approx(float(one + other - 2 * both), rel=1e-7)


def test_memorisation_tells_copies_from_new_images() -> None:
    neighbour = nearest_others(REAL)
    assert memorisation_rate(REAL, REAL + 1e-3, neighbour) == 1
    new = new_image_rate(neighbour)
    assert memorisation_rate(REAL, features(4000, 3, 1.1) + 0.1, neighbour) == pytest.approx(new, abs=0.08)
    assert new < 0.45, "in many dimensions a few images are the nearest ones of many"
    assert memorisation_rate(REAL, REAL + 100, neighbour) == 0


@pytest.mark.parametrize(("dimensions", "share"), [(1, 2 / 3), (2, 6 * math.pi / (8 * math.pi + 3 * 3**0.5))])
def test_new_images_score_the_share_of_mutual_neighbours(dimensions: int, share: float) -> None:
    """The closed form for points spread evenly (Clark 1955)."""
    points = torch.rand(3000, dimensions, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    assert new_image_rate(nearest_others(points)) == pytest.approx(share, abs=0.03)


def test_distances_of_classes_need_images_of_each() -> None:
    label = torch.arange(403) % 3
    found = class_distances(Features(REAL[:403], label), Features(FAKE, label))
    expected = [frechet_distance_of(REAL[:403][label == number], FAKE[label == number]) for number in range(3)]
    assert found.tolist() == pytest.approx(expected)
    with pytest.raises(EvaluationError, match="class 2 has fewer"):
        class_distances(Features(REAL[:403], label), Features(FAKE, label.clamp(max=1)))
    with pytest.raises(EvaluationError, match="need images with classes"):
        class_distances(*(Features(side, torch.full((len(side),), -1)) for side in (REAL, FAKE)))
