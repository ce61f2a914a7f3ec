"""Networks that turn images into features; a new one is a new file and one line in the table below."""

from collections.abc import Callable
from typing import Literal, Protocol

import torch
from torch import Tensor

from bigtrain.evaluation.extractors.efficientnet_lite0 import EfficientNetLite0

ExtractorName = Literal["efficientnet-lite0"]
FeatureDtype = Literal["fp32", "bf16"]


class Extractor(Protocol):
    """A frozen network from uint8 images [N, 1 or 3, H, W] to float32 features [N, features]."""

    short_name: str
    features: int
    preprocessing: str

    @property
    def weights_sha256(self) -> str:
        """SHA-256 of the weights' file."""
        ...

    def __call__(self, image: Tensor) -> Tensor:
        """Extract features."""
        ...


EXTRACTORS: dict[ExtractorName, Callable[[], EfficientNetLite0]] = {
    "efficientnet-lite0": EfficientNetLite0.pretrained,
}
"""Every extractor by its name in a config; none downloads anything."""


def build_extractor(name: ExtractorName, dtype: FeatureDtype, device: torch.device) -> Extractor:
    """Build an extractor with its weights on `device`."""
    network = EXTRACTORS[name]()
    return network.to(device=device, dtype=torch.bfloat16 if dtype == "bf16" else torch.float32)
