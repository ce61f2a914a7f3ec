"""A pretrained encoder as a part of a network: not trained, and saved with it."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.func import functional_call

from bigtrain.models.pretrained.feature_maps import FeatureMaps, FeatureMapsName, feature_maps


class FrozenEncoder(nn.Module):
    """The activations of a network that was trained to recognise images.

    Its weights are buffers: no optimizer moves them, averages copy them, and snapshots contain them, so that outputs
    are made without the file that they came from.

    Args:
        name: the pretrained network.
        weights: file of its weights, or its folder; None for where `find_weights` looks.
    """

    def __init__(self, name: FeatureMapsName, weights: Path | None = None) -> None:
        super().__init__()
        self._name, self._weights = name, weights
        self._maps = [feature_maps(name, weights)]  # in a list: the module itself has no content and is none of ours
        for key, value in _tensors_of(self._maps[0]).items():
            self.register_buffer(_flat(key), torch.empty(value.shape, dtype=value.dtype))

    def reset_parameters(self) -> None:
        """Load the weights.

        Raises:
            WeightsError: they are missing or wrong.
        """
        loaded = feature_maps(self._name, self._weights)
        loaded.load(torch.device("cpu"))
        for key, value in _tensors_of(loaded).items():
            self.get_buffer(_flat(key)).copy_(value)

    def forward(self, image: Tensor, depths: int = 5) -> Sequence[Tensor]:
        """Return the activations of the first depths.

        Args:
            image: in [-1, 1], shape [N, 1 or 3, H, W].
            depths: how many.

        Returns:
            Each [N, C, H', W'], shallow to deep.
        """
        maps = self._maps[0]
        weights = {key: self.get_buffer(_flat(key)) for key in _tensors_of(maps)}
        found: Sequence[Tensor] = functional_call(maps, weights, (image, depths))
        return found


def _tensors_of(maps: FeatureMaps) -> dict[str, Tensor]:
    return {**dict(maps.named_parameters()), **dict(maps.named_buffers())}


def _flat(key: str) -> str:
    """Return a name that a buffer may have: without dots."""
    return key.replace(".", "/")
