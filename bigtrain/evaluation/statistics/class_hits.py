"""How many samples a classifier finds to be of their class."""

from dataclasses import dataclass

import torch
from torch import Tensor

from bigtrain.distributed.collectives import sum_over_ranks


@dataclass(frozen=True)
class ClassHits:
    """Counts over the samples.

    Attributes:
        hits: samples whose largest logit is that of their class, by class, float64, shape [C].
        labelled: samples of each class, float64, shape [C].
        total: samples with and without a class, float64, shape [].
    """

    hits: Tensor
    labelled: Tensor
    total: Tensor

    @property
    def count(self) -> int:
        """Number of samples."""
        return int(self.total)

    @property
    def accuracy(self) -> float:
        """Share of the samples with a class that are found to be of it; NaN if there are none."""
        return float(self.hits.sum() / self.labelled.sum())

    def tensors(self) -> dict[str, Tensor]:
        """See Statistic."""
        return {"hits": self.hits, "labelled": self.labelled, "total": self.total}


class ClassHitSums:
    """Running counts on one rank; see Collector. The features are logits of the samples' own classes."""

    name = "class_hits"

    def __init__(self, features: int, count: int, device: torch.device) -> None:
        self._hits, self._labelled = (torch.zeros(features, dtype=torch.float64, device=device) for _ in range(2))
        self._total = torch.zeros((), dtype=torch.float64)

    def add(self, features: Tensor, index: Tensor, label: Tensor) -> None:
        """See Collector."""
        label = label.to(features.device)
        known = (label >= 0).double()
        place = label.clamp(min=0)
        self._labelled.index_add_(0, place, known)
        self._hits.index_add_(0, place, known * (features.argmax(1) == label))
        self._total += len(features)

    def over_ranks(self) -> ClassHits:
        """See Collector."""
        return ClassHits(*(sum_over_ranks(part.clone()).cpu() for part in (self._hits, self._labelled, self._total)))

    @staticmethod
    def restore(tensors: dict[str, Tensor]) -> ClassHits:
        """See Collector."""
        return ClassHits(**tensors)
