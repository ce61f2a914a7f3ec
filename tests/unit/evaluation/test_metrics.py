import numpy as np
import pytest
import scipy.linalg
import torch

from bigtrain.core.quantise import to_uint8
from bigtrain.evaluation.cache import keep, look_up
from bigtrain.evaluation.extractors import build_extractor
from bigtrain.evaluation.metrics.fid import frechet_distance
from bigtrain.evaluation.statistics.moments import Moments


def moments(seed: int, count: int, features: int) -> Moments:
    samples = np.random.default_rng(seed).normal(seed, 1 + seed, (count, features))
    return Moments(count, torch.tensor(samples.mean(0)), torch.tensor(np.cov(samples, rowvar=False)))


@pytest.mark.parametrize(("count", "features"), [(500, 20), (10, 20)])
def test_frechet_distance_equals_the_general_square_root(count: int, features: int) -> None:
    one, other = moments(0, 500, features), moments(1, count, features)
    root = scipy.linalg.sqrtm(one.covariance.numpy() @ other.covariance.numpy())
    expected = (one.mean - other.mean).square().sum() + (one.covariance + other.covariance).trace()
    assert frechet_distance(one, other) == pytest.approx(float(expected) - 2 * np.trace(root).real, rel=1e-6)
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-9)


def test_frechet_distance_is_the_same_by_either_root() -> None:
    whole, few = moments(0, 500, 20), moments(1, 10, 20)
    assert frechet_distance(few, whole) == pytest.approx(frechet_distance(whole, few), rel=1e-9)
    flat = whole.covariance.clone()
    flat[3] = flat[:, 3] = 0  # Cholesky's root does not exist
    singular = Moments(0, whole.mean, flat)
    # One eigenvalue is 0, computed as rounding of either sign, and a positive one has a root of some 1e-8.
    rounding = 2 * float(20 * torch.finfo(torch.float64).eps * torch.linalg.eigvalsh(whole.covariance)[-1] ** 2) ** 0.5
    assert rounding < 1e-6
    assert frechet_distance(singular, whole) == pytest.approx(frechet_distance(whole, singular), abs=rounding)


def test_frechet_distance_of_shifted_gaussians_is_the_shift() -> None:
    eye = torch.eye(3, dtype=torch.float64)
    one = Moments(9, torch.zeros(3, dtype=torch.float64), eye)
    assert frechet_distance(one, Moments(9, torch.tensor([3.0, 0, 4]).double(), eye)) == pytest.approx(25)


def test_statistics_are_cached_under_all_they_depend_on(alone: None) -> None:
    key = {"data": "digest", "dtype": "fp32"}
    assert look_up(key) is None
    keep(key, {"mean": torch.tensor([1.0])})
    assert look_up(dict(reversed(key.items())))["mean"] == 1.0
    assert look_up({**key, "dtype": "bf16"}) is None


def test_quantisation_rounds_and_clamps() -> None:
    values = torch.tensor([-2.0, -1.0, -1 + 1 / 255 * 0.98, 0.0, 1.0, 7.0])
    assert to_uint8(values).tolist() == [0, 0, 0, 128, 255, 255]


def test_the_extractor_tells_clothes_apart_in_either_precision(fashion) -> None:
    from data_pipelines.order import SampleOrder
    from data_pipelines.read import ShardDataset

    dataset = ShardDataset(fashion)
    order = SampleOrder([shard.count for shard in dataset.manifest.shards], seed=0)
    fields = dataset.read([order.locate(position) for position in range(80)])
    images, labels = fields["image"], fields["class"]
    with torch.inference_mode():
        exact = build_extractor("efficientnet-lite0", "fp32", torch.device("cpu"))(torch.from_numpy(images))["pool"]
        rough = build_extractor("efficientnet-lite0", "bf16", torch.device("cpu"))(torch.from_numpy(images))["pool"]
    assert exact.shape == (80, 1280)
    assert torch.nn.functional.cosine_similarity(exact, rough).min() > 0.99
    centred = torch.nn.functional.normalize(exact - exact.mean(0))
    nearest = (centred @ centred.t()).fill_diagonal_(-1).argmax(1)
    assert (labels[nearest] == labels).mean() > 0.6
