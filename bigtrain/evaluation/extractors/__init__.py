"""Networks that turn images into features; a new one is a new file and one line in the table below."""

from collections.abc import Callable
from typing import Literal

import torch

from bigtrain.evaluation.extractors.base import Extractor, FeatureDtype
from bigtrain.evaluation.extractors.efficientnet_lite0 import EfficientNetLite0

ExtractorName = Literal["efficientnet-lite0"]

EXTRACTORS: dict[ExtractorName, Callable[[], EfficientNetLite0]] = {
    "efficientnet-lite0": EfficientNetLite0.pretrained,
}
"""Every extractor by its name in a config; none downloads anything."""


def build_extractor(name: ExtractorName, dtype: FeatureDtype, device: torch.device) -> Extractor:
    """Build an extractor with its weights on `device`."""
    network = EXTRACTORS[name]()
    return network.to(device=device, dtype=torch.bfloat16 if dtype == "bf16" else torch.float32)
