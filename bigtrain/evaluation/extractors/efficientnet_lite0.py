"""EfficientNet-Lite0 features, whose weights need no download.

Scores made with it are named for it and are never comparable with published FID, which uses Inception-v3.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bigtrain.evaluation.extractors.base import FeatureDtype
from bigtrain.models.pretrained.efficientnet_lite0 import EfficientNetLite0, weights_path
from data_pipelines.files import sha256_of

_SIZE = 224


class EfficientNetLite0Features(nn.Module):
    """The network's features of resized images.

    Attributes:
        name: see Extractor.
        short_name: see Extractor.
        layers: the pooled features, and logits of ImageNet's classes.
        preprocessing: see Extractor.
    """

    name = "efficientnet-lite0"
    short_name = "efflite0"
    layers: Mapping[str, int] = MappingProxyType({"pool": 1280, "logits": 1000})
    preprocessing = f"bilinear antialiased to {_SIZE}x{_SIZE}, (x - 127) / 128"

    def __init__(self) -> None:
        super().__init__()
        self.network = EfficientNetLite0.pretrained()

    @property
    def weights_sha256(self) -> str:
        """SHA-256 of the file of weights."""
        return sha256_of(weights_path())

    @property
    def dtype(self) -> FeatureDtype:
        """See Extractor."""
        return "bf16" if self.network.dtype == torch.bfloat16 else "fp32"

    def forward(self, image: Tensor, layers: Sequence[str] = ("pool",)) -> dict[str, Tensor]:
        """See Extractor."""
        x = image.float().expand(-1, 3, -1, -1)
        x = F.interpolate(x, size=(_SIZE, _SIZE), mode="bilinear", align_corners=False, antialias=True)
        pool = self.network((x - 127.0) / 128.0)
        found = {"pool": pool}
        if "logits" in layers:
            found["logits"] = self.network.logits(pool)
        return found
