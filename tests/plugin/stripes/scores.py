"""A metric, and an extractor that it can read."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor, nn

from bigtrain.evaluation.extractors.base import FeatureDtype
from bigtrain.evaluation.metrics.base import Metric, Need, Scores
from bigtrain.evaluation.statistics.moments import Moments, MomentSums


def _mean_gap(reference: Moments, generated: Moments) -> Scores:
    return {"mean_gap": float((reference.mean - generated.mean).norm())}


MEAN_GAP = Metric(Need("pool", MomentSums), _mean_gap)
"""Distance between the means of two sets of features."""


class Pixels(nn.Module):
    """The pixels of an image, averaged over a grid of 4x4 places; see Extractor."""

    name = "pixels"
    short_name = "pixels"
    layers: Mapping[str, int] = MappingProxyType({"pool": 16})
    preprocessing = "mean over colours and a grid of 4x4"
    weights_sha256 = ""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor(255.0), persistent=False)

    @property
    def dtype(self) -> FeatureDtype:
        """See Extractor."""
        return "bf16" if self.get_buffer("scale").dtype == torch.bfloat16 else "fp32"

    def forward(self, image: Tensor, layers: Sequence[str] = ("pool",)) -> dict[str, Tensor]:
        """See Extractor."""
        grid = nn.functional.adaptive_avg_pool2d(image.float().mean(1, keepdim=True), 4)
        return {layer: (grid / self.get_buffer("scale").float()).flatten(1) for layer in layers}


def pixels(weights: Path | None) -> Pixels:
    """Build the extractor, which has no weights."""
    return Pixels()
