"""Features of the first few images: for what needs single images, in memory that does not grow with their number."""

import torch
from torch import Tensor

from bigtrain.evaluation.statistics.features import FeatureRows

_MOST = 2000


class FirstRows(FeatureRows):
    """Features of the first 2,000 images; see Collector."""

    name = "first-features"

    def __init__(self, features: int, count: int, device: torch.device) -> None:
        super().__init__(features, min(count, _MOST), device)

    def add(self, features: Tensor, index: Tensor, label: Tensor) -> None:
        """See Collector."""
        kept = index < _MOST
        if kept.any():
            super().add(features[kept.to(features.device)], index[kept], label[kept.to(label.device)])
