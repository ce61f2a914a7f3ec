"""A score does not depend on the number of ranks."""

from pathlib import Path

import pytest
import torch

from bigtrain.evaluation.metrics.fid import frechet_distance
from bigtrain.evaluation.statistics.moments import Moments, MomentSums
from tests.distributed.ranks import on_ranks

SAMPLES, FEATURES = 203, 24


def _moments() -> Moments:
    features = torch.randn(SAMPLES, FEATURES, generator=torch.Generator().manual_seed(3)) * 2 + 5
    sums = MomentSums(FEATURES, SAMPLES, torch.device("cpu"))
    rank, world = torch.distributed.get_rank(), torch.distributed.get_world_size()
    mine = torch.arange(rank, SAMPLES, world)
    for index in mine.split(16):
        sums.add(features[index], index, torch.full_like(index, -1))
    moments = sums.over_ranks()
    return {"count": moments.count, "mean": moments.mean, "covariance": moments.covariance}


@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_moments_are_the_same_on_any_number_of_ranks(world_size: int, tmp_path: Path, alone: None) -> None:
    expected = _moments()
    other = Moments(9, torch.zeros(FEATURES, dtype=torch.float64), torch.eye(FEATURES, dtype=torch.float64))
    distance = frechet_distance(other, Moments(**expected))
    for result in on_ranks(world_size, _moments, tmp_path):
        assert result["count"] == SAMPLES
        torch.testing.assert_close(result["mean"], expected["mean"], rtol=1e-13, atol=1e-13)
        torch.testing.assert_close(result["covariance"], expected["covariance"], rtol=1e-11, atol=1e-11)
        assert frechet_distance(other, Moments(**result)) == pytest.approx(distance, rel=1e-8)
