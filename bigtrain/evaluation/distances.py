"""Perceptual distances between two images: of the activations that a frozen network has of them.

`lpips` is Zhang et al. 2018, section 3, with VGG16 and its published heads. `perceptual` is the same without learned
heads (their "unlearned" baseline), in EfficientNet-Lite0, whose weights come with a package: for machines that have no
weights of LPIPS. Its values are not comparable with LPIPS.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bigtrain.evaluation.errors import EvaluationError
from bigtrain.evaluation.extractors.base import FeatureDtype
from bigtrain.models.pretrained import EfficientNetLite0Maps, FeatureMaps, VGG16Maps
from bigtrain.models.pretrained.weights import find_weights

DistanceName = Literal["lpips", "perceptual"]
DISTANCES: tuple[DistanceName, ...] = get_args(DistanceName)

_HEADS = "lpips-vgg16"
_EPSILON = 1e-10
LEAST_SIDE = VGG16Maps.least_side


class FeatureDistance(nn.Module):
    """The distance of a network's activations, each scaled to length 1 along its channels.

    With VGG16 and its published heads this is `lpips` with `net="vgg"`, version 0.1.

    Args:
        maps: makes the activations; loaded.
        heads: weights of the channels of each activation, shape [1, C, 1, 1]; None for 1 everywhere.
        name: of the network and its heads.
        weights_sha256: of the files that they came from.
        short_name: what names of scores end with; empty for the published weights of LPIPS.
    """

    preprocessing = "not resized"
    dtype: FeatureDtype = "fp32"

    def __init__(
        self,
        maps: FeatureMaps,
        heads: Sequence[Tensor] | None = None,
        *,
        name: str,
        weights_sha256: str = "",
        short_name: str = "",
    ) -> None:
        super().__init__()
        self.name, self.weights_sha256, self.short_name = name, weights_sha256, short_name
        self.maps = maps
        self.heads = nn.ParameterList(heads) if heads is not None else None
        self.requires_grad_(False)

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        """Return the distance of each pair, float32, shape [N], of images in [-1, 1], shape [N, 1 or 3, H, W]."""
        total = torch.zeros(len(one), device=one.device)
        for part, x in enumerate(self.maps(torch.cat([one, other]))):
            unit = x / (x.square().sum(1, keepdim=True).sqrt() + _EPSILON)
            first, second = unit.chunk(2)
            difference = (first - second).square()
            weighted = difference.sum(1) if self.heads is None else F.conv2d(difference, self.heads[part])
            total += weighted.flatten(1).mean(1)
        return total


def check_distance(name: DistanceName, weights: Path | None = None) -> None:
    """Find out whether a distance's weights are there.

    Args:
        name: of the distance.
        weights: folder of LPIPS's weights; None for where `find_weights` looks.

    Raises:
        WeightsError: they are missing or wrong.
    """
    if name == "lpips":
        for part in ("vgg16", _HEADS):
            find_weights(part, weights)


def build_distance(name: DistanceName, device: torch.device, *, weights: Path | None = None) -> FeatureDistance:
    """Build a distance with its weights on `device`.

    Args:
        name: of the distance.
        device: where to.
        weights: folder of LPIPS's weights; None for where `find_weights` looks.

    Raises:
        EvaluationError, WeightsError: weights are missing or wrong.
    """
    return (_lpips(weights) if name == "lpips" else _perceptual()).to(device)


def _lpips(weights: Path | None) -> FeatureDistance:
    found = find_weights("vgg16", weights), find_weights(_HEADS, weights)
    other = "".join(one.sha256[:8] for one in found if not one.published)
    both = hashlib.sha256(" ".join(one.sha256 for one in found).encode()).hexdigest()
    maps, state = VGG16Maps(weights), found[1].load()
    maps.load(torch.device("cpu"))
    try:
        heads = [state[f"lin{number}.model.1.weight"] for number in range(5)]
    except KeyError as error:
        raise EvaluationError(f"{found[1].path}: not the linear layers of LPIPS (it has no {error})") from None
    short_name = f"vgg16-{other}" if other else ""
    return FeatureDistance(maps, heads, name=_HEADS, weights_sha256=both, short_name=short_name)


def _perceptual() -> FeatureDistance:
    maps = EfficientNetLite0Maps()
    maps.load(torch.device("cpu"))
    return FeatureDistance(maps, name=maps.name, weights_sha256=maps.check(), short_name=maps.short_name)
