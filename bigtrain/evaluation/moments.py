"""Mean and covariance of features, summed in float64, so that no split of the samples over ranks changes them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from bigtrain.distributed.collectives import sum_over_ranks


@dataclass(frozen=True)
class Moments:
    """The first two moments of a set of feature vectors.

    Attributes:
        count: number of samples.
        mean: float64, shape [F].
        covariance: unbiased, float64, shape [F, F].
    """

    count: int
    mean: Tensor
    covariance: Tensor


class MomentSums:
    """Running sums of features on one rank."""

    def __init__(self, features: int, device: torch.device) -> None:
        self._count = 0
        self._sum = torch.zeros(features, dtype=torch.float64, device=device)
        self._outer = torch.zeros(features, features, dtype=torch.float64, device=device)

    def add(self, features: Tensor) -> None:
        """Add samples, shape [N, F]."""
        wide = features.double()
        self._count += len(wide)
        self._sum += wide.sum(0)
        self._outer.addmm_(wide.t(), wide)

    def over_ranks(self) -> Moments:
        """Return the moments over the samples of all ranks. Collective."""
        count = int(sum_over_ranks(torch.tensor(self._count, dtype=torch.float64)).item())
        if count < 2:
            raise ValueError(f"moments need at least 2 samples, got {count}")
        mean = sum_over_ranks(self._sum.clone()) / count
        outer = sum_over_ranks(self._outer.clone())
        covariance = (outer - count * torch.outer(mean, mean)) / (count - 1)
        return Moments(count, mean.cpu(), covariance.cpu())
