"""Our extractors under torch-fidelity's names, so that its own metrics run on them."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch_fidelity import FeatureExtractorBase, register_feature_extractor

from bigtrain.evaluation.extractors import EXTRACTORS, build_extractor

PREFIX = "bigtrain-"
_LAYERS = ("pool", "logits")


def register_with_torch_fidelity() -> list[str]:
    """Register every extractor as `bigtrain-NAME`, with the layers `pool` and `logits`; return the names.

    torch-fidelity hands weights over by its argument `feature_extractor_weights_path`; nothing is downloaded.
    """
    names = [PREFIX + name for name in EXTRACTORS]
    for name in names:
        register_feature_extractor(name, _Adapter)
    return names


class _Adapter(FeatureExtractorBase):  # type: ignore[misc]
    def __init__(
        self, name: str, features_list: list[str], feature_extractor_weights_path: str | None = None, **_: Any
    ) -> None:
        super().__init__(name, features_list)
        weights = Path(feature_extractor_weights_path) if feature_extractor_weights_path else None
        self.network = build_extractor(name.removeprefix(PREFIX), "fp32", torch.device("cpu"), weights=weights)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        found = self.network(image, self.features_list)
        return tuple(found[layer] for layer in self.features_list)

    @staticmethod
    def get_provided_features_list() -> tuple[str, ...]:
        return _LAYERS

    @staticmethod
    def get_default_feature_layer_for_metric(metric: str) -> str:
        return "logits" if metric == "isc" else "pool"

    @staticmethod
    def can_be_compiled() -> bool:
        return False

    @staticmethod
    def get_dummy_input_for_compile() -> Tensor:
        return torch.zeros(1, 3, 4, 4, dtype=torch.uint8)
