import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bigtrain.health.diversity import different_bins, k_means, mean_distance
from bigtrain.health.memorisation import nearest, rank_z
from bigtrain.health.probes.features import share_of_twins


def blobs(count: int, centres: int = 4, *, seed: int = 0) -> torch.Tensor:
    """Points around the corners of a simplex, in turn."""
    noise = torch.randn(count, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return 10 * torch.eye(8, dtype=torch.float64)[torch.arange(count) % centres] + noise


def test_mean_distance_leaves_out_a_sample_and_itself() -> None:
    points = torch.tensor([[0.0], [0.0], [3.0], [3.0]], dtype=torch.float64)
    assert mean_distance(points) == pytest.approx(2.0)
    assert mean_distance(points, torch.tensor([0, 0, 1, 1])) == pytest.approx(0.0)
    assert mean_distance(points, torch.tensor([0, 1, 0, 1])) == pytest.approx(3.0)


def test_k_means_finds_the_blobs() -> None:
    centres = k_means(blobs(400), 4)
    expected = 10 * torch.eye(8, dtype=torch.float64)[:4]
    assert torch.cdist(expected, centres).min(1).values.max() < 0.5


def test_different_bins_counts_what_is_missing() -> None:
    real = blobs(800, 4)
    assert different_bins(real, blobs(200, 4, seed=1), 4) == 0.0
    assert different_bins(real, blobs(200, 3, seed=1), 4) >= 0.5  # one is missing, so others have too many
    assert different_bins(real, blobs(200, 1, seed=1), 4) == 1.0


def test_different_bins_are_one_in_twenty_for_one_distribution() -> None:
    shares = [different_bins(blobs(800, seed=2 * run), blobs(400, seed=2 * run + 1), 20) for run in range(20)]
    assert sum(shares) / len(shares) == pytest.approx(0.05, abs=0.04)


@given(st.integers(0, 1000))
def test_rank_z_is_antisymmetric_and_standard(seed: int) -> None:
    one, other = torch.randn(2, 60, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    assert rank_z(one, other) == pytest.approx(-rank_z(other, one))
    assert abs(rank_z(one, other)) < 4.5


def test_copies_lie_nearer_than_new_samples() -> None:
    train, new = blobs(200), blobs(100, seed=1)
    copies = train[:100] + 0.01
    distances, index = nearest(copies, train)
    assert torch.equal(index, torch.arange(100))
    assert rank_z(distances, nearest(new, train)[0]) < -10
    assert rank_z(nearest(blobs(100, seed=2), train)[0], nearest(new, train)[0]) > -3


def test_twins_are_those_that_are_there_twice() -> None:
    points = blobs(100)
    assert share_of_twins(points) == 0.0
    assert share_of_twins(torch.cat([points, points[:25]])) == pytest.approx(50 / 125)
