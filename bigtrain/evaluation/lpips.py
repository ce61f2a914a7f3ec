"""Learned perceptual distance between images (Zhang et al. 2018, section 3), with VGG16 and its published heads."""

import hashlib
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import vgg16

from bigtrain.core.state import State
from bigtrain.evaluation.errors import EvaluationError
from bigtrain.evaluation.weights import find_weights

_TAPS = (0, 4, 9, 16, 23, 30)
"""Layers of VGG16's features that the five parts, each up to a ReLU, lie between."""

_LAYERS = "features."
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
"""ImageNet's mean and deviation, for values in [-1, 1]."""

_EPSILON = 1e-10
LEAST_SIDE = 16
"""Pixels: four poolings must leave something."""


class LPIPS(nn.Module):
    """The distance `lpips` with `net="vgg"`, version 0.1.

    Args:
        network: torchvision's tensors of VGG16.
        heads: weights of the channels of each part, `lin0.model.1.weight` to `lin4.model.1.weight`.
        weights_sha256: of the two files that they came from.
        short_name: what names of scores end with; empty for the published weights.

    Raises:
        KeyError, RuntimeError: the tensors are something else.
    """

    name = "lpips-vgg16"
    preprocessing = "not resized"
    dtype = "fp32"

    def __init__(self, network: State, heads: State, *, weights_sha256: str = "", short_name: str = "") -> None:
        super().__init__()
        self.weights_sha256, self.short_name = weights_sha256, short_name
        with torch.device("meta"):
            layers = vgg16().features
        own = {name.removeprefix(_LAYERS): value for name, value in network.items() if name.startswith(_LAYERS)}
        layers.load_state_dict(own, assign=True)
        self.parts = nn.ModuleList(layers[start:stop] for start, stop in pairwise(_TAPS))
        self.heads = nn.ParameterList(heads[f"lin{number}.model.1.weight"] for number in range(len(self.parts)))
        self.register_buffer("shift", torch.tensor(_SHIFT).reshape(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(_SCALE).reshape(1, 3, 1, 1), persistent=False)
        self.eval().requires_grad_(False).to(memory_format=torch.channels_last)

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        """Return the distance of each pair, float32, shape [N], of images in [-1, 1], shape [N, 1 or 3, H, W]."""
        both = torch.cat([one, other]).float().expand(-1, 3, -1, -1)
        x = ((both - self.get_buffer("shift")) / self.get_buffer("scale")).contiguous(memory_format=torch.channels_last)
        total = torch.zeros(len(one), device=x.device)
        for part, head in zip(self.parts, self.heads, strict=True):
            x = part(x)
            unit = x / (x.square().sum(1, keepdim=True).sqrt() + _EPSILON)
            first, second = unit.chunk(2)
            total += F.conv2d((first - second).square(), head).mean((1, 2, 3))
        return total


def build_lpips(device: torch.device, *, weights: Path | None = None) -> LPIPS:
    """Build the distance with its weights on `device`.

    Args:
        device: where to.
        weights: folder of both files; None for where `find_weights` looks.

    Raises:
        EvaluationError: weights are missing or wrong.
    """
    network, heads = find_weights("vgg16", weights), find_weights("lpips-vgg16", weights)
    other = "".join(found.sha256[:8] for found in (network, heads) if not found.published)
    both = hashlib.sha256(f"{network.sha256} {heads.sha256}".encode()).hexdigest()
    try:
        built = LPIPS(network.load(), heads.load(), weights_sha256=both, short_name=f"vgg16-{other}" if other else "")
    except (KeyError, RuntimeError) as error:
        why = str(error).splitlines()[0]
        raise EvaluationError(f"{network.path}, {heads.path}: not the weights of LPIPS ({why})") from None
    return built.to(device)
