"""Perceptual loss: G's image and its target are compared in the activations of a frozen network."""

from pathlib import Path
from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import NonNegativeFloat, model_validator
from torch import Tensor

from bigtrain.core.schedules import ConstantSchedule, Schedule
from bigtrain.models.pretrained import FeatureMaps, FeatureMapsName, feature_maps
from bigtrain.models.translator import Translator
from bigtrain.ops.precision import outside_autocast
from bigtrain.tasks.terms.base import GeneratorLossContext, Setting
from bigtrain.tasks.terms.pixels import Paired

NAME = "perceptual"
"""What the term, and its network in a context, are called."""


class Perceptual(Paired):
    """lambda · mean over depths of E |f(G(x)) - f(y)|² (Johnson et al. 2016, equation 2).

    Attributes:
        network: whose activations f are. The weights of `efficientnet-lite0` come with a package, those of `vgg16` are
            got by `bigtrain weights fetch vgg16`.
        weights: file of the network's weights, or its folder; null for $BIGTRAIN_WEIGHTS, then the cache.
        depths: which of the network's five depths, 1 is the shallowest.
        gram: weight, within the term, of the style loss: mean over depths of E |Gram(f(G(x))) - Gram(f(y))|, where a
            Gram matrix has the mean products of two channels (Gatys et al. 2016; Sajjadi et al. 2017).
    """

    pauses: ClassVar[bool] = True

    weight: Schedule = ConstantSchedule(value=1.0)
    network: FeatureMapsName = "efficientnet-lite0"
    weights: str | None = None
    depths: tuple[int, ...] = (1, 2, 3, 4, 5)
    gram: NonNegativeFloat = 0.0

    @model_validator(mode="after")
    def _depths_are_there(self) -> "Perceptual":
        if not self.depths or len(set(self.depths)) < len(self.depths) or not set(self.depths) <= {1, 2, 3, 4, 5}:
            raise ValueError(f"depths {list(self.depths)}: list one or more of 1, 2, 3, 4, 5, each once")
        return self

    def check(self, setting: Setting) -> None:
        """See Term: the network looks at images of one or three channels, which must not be too small."""
        super().check(setting)
        generator = setting.generator
        assert isinstance(generator, Translator)
        channels, *size = generator.output.shape
        least = self.frozen().least_side
        if channels not in (1, 3) or min(size) < least:
            raise ValueError(
                f"{self.network} reads grey or RGB images of {least} pixels a side or more, but the target has "
                f"{channels} channels and {size[0]}x{size[1]} pixels"
            )

    def frozen(self) -> FeatureMaps:
        """See Term."""
        return feature_maps(self.network, Path(self.weights).expanduser() if self.weights else None)

    def in_generator(self, context: GeneratorLossContext) -> Tensor:
        """See GeneratorTerm."""
        network = context.parts[NAME]
        with torch.no_grad():
            wanted = network(context.real)
        depths = [depth - 1 for depth in self.depths]
        made = network(context.fake)
        pairs = [(made[depth].float(), wanted[depth].float()) for depth in depths]
        distances = torch.stack([F.mse_loss(ours, theirs) for ours, theirs in pairs])
        if not self.gram:
            return distances
        styles = [F.l1_loss(gram_matrices(ours), gram_matrices(theirs)) for ours, theirs in pairs]
        return distances + self.gram * torch.stack(styles)


def gram_matrices(activations: Tensor) -> Tensor:
    """Return the products of every two channels, over all places and channels: [N, C, C] of [N, C, H, W]."""
    flat = activations.flatten(2)
    with outside_autocast(flat.device.type):
        return flat @ flat.mT / (flat.shape[1] * flat.shape[2])
