"""Activations of networks that were trained to recognise images, by which images are compared."""

from abc import ABC, abstractmethod
from itertools import pairwise
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from bigtrain.core.state import State
from bigtrain.models.pretrained.efficientnet_lite0 import EfficientNetLite0, weights_path
from bigtrain.models.pretrained.weights import Weights, WeightsError, find_weights
from data_pipelines.errors import first_line
from data_pipelines.files import sha256_of

_TAPS = (0, 4, 9, 16, 23, 30)
"""Layers of VGG16's features that the five parts, each up to a ReLU, lie between."""

_LAYERS = "features."
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
"""ImageNet's mean and deviation, for values in [-1, 1], as LPIPS has them."""


class FeatureMaps(nn.Module, ABC):
    """A frozen network, without content until it is loaded: a plan needs no weights.

    Attributes:
        name: in a config.
        least_side: pixels that images need.
    """

    name: str
    least_side: int

    def __init__(self) -> None:
        super().__init__()
        self.allocate(torch.device("meta"))

    def allocate(self, device: torch.device) -> None:
        """Take the network's memory on `device`, without content."""
        with device:
            self.network = self._empty()

    def load(self, device: torch.device) -> None:
        """Load the weights.

        Raises:
            WeightsError: they are missing or wrong.
        """
        self.network = self._loaded()
        self.to(device)

    @property
    @abstractmethod
    def short_name(self) -> str:
        """What names of scores end with."""

    @abstractmethod
    def check(self) -> str:
        """Find the weights, and return the SHA-256 of their file.

        Raises:
            WeightsError: they are missing or wrong.
        """

    @abstractmethod
    def _empty(self) -> nn.Module:
        """Build the network with whatever content."""

    @abstractmethod
    def _loaded(self) -> nn.Module:
        """Build the network with its weights."""

    @abstractmethod
    def forward(self, image: Tensor, depths: int = 5) -> list[Tensor]:
        """Return the activations of the first `depths` of five depths.

        Args:
            image: in [-1, 1], shape [N, 1 or 3, H, W].
            depths: how many, shallow to deep.

        Returns:
            Each [N, C, H', W'].
        """


class EfficientNetLite0Maps(FeatureMaps):
    """EfficientNet-Lite0, whose weights come with a package: the ends of its five resolutions."""

    name = "efficientnet-lite0"
    least_side = 2

    @property
    def short_name(self) -> str:
        """See FeatureMaps."""
        return "efflite0"

    def check(self) -> str:
        """See FeatureMaps."""
        return sha256_of(weights_path())

    def _empty(self) -> nn.Module:
        return EfficientNetLite0(folded=True).requires_grad_(False)

    def _loaded(self) -> nn.Module:
        return EfficientNetLite0.pretrained()

    def forward(self, image: Tensor, depths: int = 5) -> list[Tensor]:
        """See FeatureMaps."""
        assert isinstance(self.network, EfficientNetLite0)
        return self.network.maps((image.float().expand(-1, 3, -1, -1) * 127.5 + 0.5) / 128, depths)


class VGG16Maps(FeatureMaps):
    """VGG16 (Simonyan & Zisserman 2015) with torchvision's weights: the last ReLU before each pooling.

    Args:
        weights: their file, or its folder; None for where `find_weights` looks.
    """

    name = "vgg16"
    least_side = 16

    def __init__(self, weights: Path | None = None) -> None:
        self._weights = weights
        super().__init__()
        self.register_buffer("shift", torch.tensor(_SHIFT).reshape(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(_SCALE).reshape(1, 3, 1, 1), persistent=False)

    @property
    def short_name(self) -> str:
        """See FeatureMaps: weights that are not the published ones are named."""
        return self._found().label("vgg16", published="vgg16")

    def check(self) -> str:
        """See FeatureMaps."""
        return self._found().sha256

    def _found(self) -> Weights:
        return find_weights(self.name, self._weights)

    def _empty(self) -> nn.Module:
        return _in_parts(_vgg16_features())

    def _loaded(self) -> nn.Module:
        found = self._found()
        try:
            return vgg16_parts(found.load())
        except (KeyError, RuntimeError) as error:
            raise WeightsError(f"{found.path}: not the weights of VGG16 ({first_line(error)})") from None

    def forward(self, image: Tensor, depths: int = 5) -> list[Tensor]:
        """See FeatureMaps."""
        x = (image.float().expand(-1, 3, -1, -1) - self.get_buffer("shift")) / self.get_buffer("scale")
        x, found = x.contiguous(memory_format=torch.channels_last), []
        for part in list(self.network.children())[:depths]:
            x = part(x)
            found.append(x)
        return found


def vgg16_parts(state: State) -> nn.ModuleList:
    """Return VGG16's convolutions in five parts.

    Args:
        state: torchvision's tensors.

    Raises:
        KeyError, RuntimeError: the tensors are something else.
    """
    with torch.device("meta"):
        layers = _vgg16_features()
    own = {name.removeprefix(_LAYERS): value for name, value in state.items() if name.startswith(_LAYERS)}
    layers.load_state_dict(own, assign=True)
    return _in_parts(layers).to(memory_format=torch.channels_last)


def _vgg16_features() -> nn.Sequential:
    from torchvision.models import vgg16  # a third of a second of every rank, and few use it

    features: nn.Sequential = vgg16().features
    return features


def _in_parts(layers: nn.Sequential) -> nn.ModuleList:
    parts = nn.ModuleList(layers[start:stop] for start, stop in pairwise(_TAPS))
    return parts.eval().requires_grad_(False)


FeatureMapsName = Literal["efficientnet-lite0", "vgg16"]


def feature_maps(name: FeatureMapsName, weights: Path | None = None) -> FeatureMaps:
    """Return a network, without content.

    Args:
        name: of the network.
        weights: file of its weights, or its folder; None for where they usually are.

    Raises:
        WeightsError: its weights come with a package, and a file is named.
    """
    if name == "vgg16":
        return VGG16Maps(weights)
    if weights is not None:
        raise WeightsError(f"{name}: its weights are installed with a package; give no weights")
    return EfficientNetLite0Maps()
