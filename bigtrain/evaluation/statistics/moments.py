"""Mean and covariance of features, summed in float64, so that no split of the samples over ranks changes them."""

from dataclasses import dataclass
from functools import cached_property

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

    @property
    def rank(self) -> int:
        """How many eigenvalues of the covariance may not be 0; published statistics may not tell their count."""
        features = len(self.mean)
        return min(self.count - 1, features) if self.count else features

    @cached_property
    def root(self) -> Tensor:
        """R with R R^T the covariance, shape [F, rank].

        It is Cholesky's, or, twice as slow, made of the eigenvectors where some eigenvalues are 0.
        """
        root: Tensor
        if self.rank == len(self.mean):
            root, failed = torch.linalg.cholesky_ex(self.covariance)
            if not failed:
                return root
        values, vectors = torch.linalg.eigh(self.covariance)
        root = (vectors * values.clamp(min=0).sqrt())[:, -self.rank :]
        return root

    def tensors(self) -> dict[str, Tensor]:
        """See Statistic."""
        return {"count": torch.tensor(self.count), "mean": self.mean, "covariance": self.covariance}


class MomentSums:
    """Running sums of features on one rank; see Collector."""

    name = "moments"

    def __init__(self, features: int, count: int, device: torch.device) -> None:
        self._count = 0
        self._sum = torch.zeros(features, dtype=torch.float64, device=device)
        self._outer = torch.zeros(features, features, dtype=torch.float64, device=device)

    def add(self, features: Tensor, index: Tensor, label: Tensor) -> None:
        """See Collector."""
        wide = features.double()
        self._count += len(wide)
        self._sum += wide.sum(0)
        self._outer.addmm_(wide.t(), wide)

    def over_ranks(self) -> Moments:
        """See Collector."""
        count = int(sum_over_ranks(torch.tensor(self._count, dtype=torch.float64)).item())
        if count < 2:
            raise ValueError(f"moments need at least 2 samples, got {count}")
        mean = sum_over_ranks(self._sum.clone()) / count
        outer = sum_over_ranks(self._outer.clone())
        covariance = (outer - count * torch.outer(mean, mean)) / (count - 1)
        return Moments(count, mean.cpu(), covariance.cpu())

    @staticmethod
    def restore(tensors: dict[str, Tensor]) -> Moments:
        """See Collector."""
        return Moments(int(tensors["count"]), tensors["mean"], tensors["covariance"])
