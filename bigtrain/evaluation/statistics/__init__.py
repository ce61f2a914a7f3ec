"""What metrics read: sums over the features of a set of images, or the features themselves; a new one is a new file."""

from typing import Protocol, TypeVar

import torch
from torch import Tensor


class Statistic(Protocol):
    """All that a metric needs to know of one set of images, the same on every rank."""

    @property
    def count(self) -> int:
        """Number of images."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """Return all of it as named tensors, for a file."""
        ...


StatisticT_co = TypeVar("StatisticT_co", bound=Statistic, covariant=True)


class Collector(Protocol[StatisticT_co]):
    """Makes a statistic of the features of images 0 .. count - 1, of which every rank sees its share."""

    name: str
    """Of the statistic, in the keys of caches."""

    def __init__(self, features: int, count: int, device: torch.device) -> None:
        """Begin.

        Args:
            features: length of a feature vector.
            count: images on all ranks together.
            device: where the features are.
        """

    def add(self, features: Tensor, index: Tensor, label: Tensor) -> None:
        """Add images of this rank.

        Args:
            features: float32, shape [N, features].
            index: which images they are, int64 on the CPU, shape [N].
            label: their classes, int64, shape [N]; -1 for none.
        """

    def over_ranks(self) -> StatisticT_co:
        """Return the statistic of the images of all ranks. Collective."""
        ...

    @staticmethod
    def restore(tensors: dict[str, Tensor]) -> StatisticT_co:
        """Return the statistic that `Statistic.tensors` gave."""
        ...
