"""Features of some images: for what needs single images, in memory that does not grow with their number."""

import numpy as np
import torch
from torch import Tensor

from bigtrain.evaluation.statistics.features import FeatureRows

_MOST = 2000


class SomeRows(FeatureRows):
    """Features of up to 2,000 images, evenly spread: files may be sorted by class; see Collector."""

    name = "some-features"

    def __init__(self, features: int, count: int, device: torch.device) -> None:
        self._every = max(-(-count // _MOST), 1)
        super().__init__(features, -(-count // self._every), device)

    def add(self, features: Tensor, index: Tensor, label: Tensor) -> None:
        """See Collector."""
        # By number, found on the host: by a mask, the host would wait for the device.
        kept = torch.from_numpy(np.flatnonzero(index.numpy() % self._every == 0))
        super().add(features[kept.to(features.device)], index[kept] // self._every, label[kept.to(label.device)])
