"""Discriminators whose logit has a projection of the class (Miyato & Koyama 2018)."""

from collections.abc import Iterable, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from bigtrain.models.base import ArraySpec, Discriminator
from bigtrain.models.layers.conditioning import ClassTable, class_weights
from bigtrain.models.layers.spectral import SpectralEmbedding, SpectralLinear, WeightStyle


class SpectralProjection(Discriminator):
    """Base class of discriminators with `blocks`, whose last layer and class vectors have spectral normalisation."""

    blocks: nn.ModuleList

    def add_head(self, features_dim: int, style: WeightStyle) -> None:
        """Make the last layer and the classes' vectors; `image` is set."""
        self.features_dim = features_dim
        self.linear = SpectralLinear(features_dim, 1, style=style)
        if self.image.classes:
            self.embed = SpectralEmbedding(self.image.classes, features_dim, style=style)

    def head(self, feature: Tensor, label: Tensor) -> Tensor:
        """See Discriminator; a class adds its projection."""
        logits: Tensor = self.linear(feature).squeeze(1).float()
        if self.image.classes:
            logits = logits + (self.embed(class_weights(label, self.image.classes)) * feature).sum(1)
        return logits.float()

    def stages(self) -> Sequence[nn.Module]:
        """See Discriminator."""
        return list(self.blocks)


class ProjectionDiscriminator(Discriminator):
    """Sample -> blocks with leaky ReLU -> logit; the sample has any number of axes.

    Args:
        spec: what it judges.
        blocks: from the sample down to the smallest feature map.
        features_dim: numbers in the smallest feature map of one sample.
        style: how the last layer and the classes' vectors begin.
    """

    def __init__(self, spec: ArraySpec, blocks: Iterable[nn.Module], features_dim: int, style: WeightStyle) -> None:
        super().__init__()
        self.image, self.features_dim = spec, features_dim
        self.blocks = nn.ModuleList(blocks)
        self.linear = SpectralLinear(features_dim, 1, style=style)
        if spec.classes:
            self.embedding = ClassTable(spec.classes, features_dim, style)

    def features(self, image: Tensor, label: Tensor) -> list[Tensor]:
        """See Discriminator; `image` is a sample of any number of axes, shape [N, C, ...]."""
        x, found = image, []
        for block in self.blocks:
            x = F.leaky_relu(block(x), 0.2)
            found.append(x)
        found.append(x.flatten(1).float())
        return found

    def head(self, feature: Tensor, label: Tensor) -> Tensor:
        """See Discriminator."""
        logits: Tensor = self.linear(feature).squeeze(1).float()
        if self.image.classes:
            logits = logits + (self.embedding(class_weights(label, self.image.classes)) * feature).sum(1).float()
        return logits

    def stages(self) -> Sequence[nn.Module]:
        """See Discriminator."""
        return list(self.blocks)
