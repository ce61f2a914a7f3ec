"""Minibatch discrimination: D compares the samples of a batch (Salimans et al. 2016, section 3.2)."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from bigtrain.models.base import BaseDiscriminatorConfig, Discriminator, DiscriminatorConfig, ImageSpec


class MinibatchDiscriminatorConfig(BaseDiscriminatorConfig):
    """A discriminator that also compares the samples of a micro-batch.

    Attributes:
        base: the discriminator that is wrapped.
        kernels: number of similarities that are computed for each sample.
        kernel_dim: length of the vectors that are compared for each similarity.
    """

    kind: Literal["minibatch_discrimination"] = "minibatch_discrimination"
    base: DiscriminatorConfig
    kernels: PositiveInt = 32
    kernel_dim: PositiveInt = 8

    def build(self, image: ImageSpec) -> "MinibatchDiscriminator":
        """Build it for `image`."""
        return MinibatchDiscriminator(self, image)


class MinibatchDiscriminator(Discriminator):
    """The base's logit plus a linear function of how close the other samples of the micro-batch are.

    Where the base's head is linear, this is a linear head on its last feature and the closeness side by side.
    """

    def __init__(self, config: MinibatchDiscriminatorConfig, image: ImageSpec) -> None:
        super().__init__()
        self.image = image
        self.base = config.base.build(image)
        self.features_dim = self.base.features_dim + config.kernels
        self.group = self.base.group
        self.closeness = Closeness(self.base.features_dim, config.kernels, config.kernel_dim)
        self.linear = nn.Linear(config.kernels, 1, bias=False)

    def features(self, image: Tensor, label: Tensor) -> list[Tensor]:
        """Return the base's activations; the closeness is appended to the last one."""
        *inner, last = self.base.features(image, label)
        return [*inner, torch.cat([last, self.closeness(last).to(last.dtype)], dim=1)]

    def head(self, feature: Tensor, label: Tensor) -> Tensor:
        """See Discriminator."""
        own, others = torch.split(feature, [self.base.features_dim, self.linear.in_features], dim=1)
        logits: Tensor = self.base.head(own, label) + self.linear(others).squeeze(1).float()
        return logits

    def stages(self) -> Sequence[nn.Module]:
        """See Discriminator."""
        return self.base.stages()


class Closeness(nn.Module):
    """o(x)_b = Σ_j exp(-|M_b(x) - M_b(x_j)|₁) over the other samples j of the batch, M = f(x) T.

    Args:
        features: length of f(x).
        kernels: number of b.
        kernel_dim: length of M_b.
    """

    def __init__(self, features: int, kernels: int, kernel_dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(features, kernels, kernel_dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Fill the weight anew."""
        nn.init.normal_(self.weight, std=1 / math.sqrt(len(self.weight)))

    def forward(self, feature: Tensor) -> Tensor:
        """Map features [N, F] to closeness [N, kernels], float32."""
        with torch.autocast(feature.device.type, enabled=False):
            compared = torch.einsum("nf,fkd->nkd", feature.float(), self.weight)
            distance = (compared[:, None] - compared[None]).abs().sum(-1)
            return torch.exp(-distance).sum(1) - 1  # without the sample itself
