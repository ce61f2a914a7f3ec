"""What the Inception Score is made of: sums over the class probabilities of each of ten splits of the images."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bigtrain.distributed.collectives import sum_over_ranks

SPLITS = 10
_SHUFFLE_SEED = 2020
"""torch-fidelity's: images are dealt to the splits in its order, so that the scores are the same."""


@dataclass(frozen=True)
class ClassScores:
    """Sums over the images of each split.

    Attributes:
        images: in each split, float64, shape [SPLITS].
        probability: sum of the class probabilities, float64, shape [SPLITS, C].
        negative_entropy: sum of p log p over images and classes, float64, shape [SPLITS].
    """

    images: Tensor
    probability: Tensor
    negative_entropy: Tensor

    @property
    def count(self) -> int:
        """Number of images."""
        return int(self.images.sum())

    def tensors(self) -> dict[str, Tensor]:
        """See Statistic."""
        return {
            "images": self.images,
            "probability": self.probability,
            "negative_entropy": self.negative_entropy,
        }


class ClassScoreSums:
    """Running sums on one rank; see Collector. The features are logits."""

    name = "class_scores"

    def __init__(self, features: int, count: int, device: torch.device) -> None:
        place = np.argsort(np.random.RandomState(_SHUFFLE_SEED).permutation(count))
        edges = np.arange(1, SPLITS + 1) * count // SPLITS
        self._split = torch.from_numpy(np.searchsorted(edges, place, side="right")).to(device)
        self._images = torch.zeros(SPLITS, dtype=torch.float64, device=device)
        self._probability = torch.zeros(SPLITS, features, dtype=torch.float64, device=device)
        self._negative_entropy = torch.zeros(SPLITS, dtype=torch.float64, device=device)

    def add(self, features: Tensor, index: Tensor, label: Tensor) -> None:
        """See Collector."""
        split = self._split[index.to(self._split.device)]
        log_p = features.double().log_softmax(1)
        p = log_p.exp()
        self._images.index_add_(0, split, torch.ones_like(p[:, 0]))
        self._probability.index_add_(0, split, p)
        self._negative_entropy.index_add_(0, split, (p * log_p).sum(1))

    def over_ranks(self) -> ClassScores:
        """See Collector."""
        return ClassScores(
            *(sum_over_ranks(part.clone()).cpu() for part in (self._images, self._probability, self._negative_entropy))
        )

    @staticmethod
    def restore(tensors: dict[str, Tensor]) -> ClassScores:
        """See Collector."""
        return ClassScores(**tensors)
