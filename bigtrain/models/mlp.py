"""The GAN as it began (Goodfellow et al. 2014): fully connected layers on all pixels at once."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from bigtrain.core.rng import Draws
from bigtrain.models.base import BaseDiscriminatorConfig, BaseGeneratorConfig, Discriminator, Generator, ImageSpec
from bigtrain.models.layers.conditioning import ClassTable, class_weights
from bigtrain.models.layers.spectral import SpectralLinear, WeightStyle

_STYLE = WeightStyle("xavier", spectral=False)
Hidden = Annotated[tuple[PositiveInt, ...], Field(min_length=1)]


class MLPGeneratorConfig(BaseGeneratorConfig):
    """The generator's size; the defaults are the paper's for MNIST.

    Attributes:
        z_dim: length of the latent.
        hidden: number of units of each layer; the activation is ReLU.
        label_dim: length of the class embedding, which is appended to z.
    """

    kind: Literal["mlp"] = "mlp"
    z_dim: PositiveInt = 100
    hidden: Hidden = (1200, 1200)
    label_dim: PositiveInt = 32

    def build(self, image: ImageSpec) -> Generator:
        """Build the generator for `image`."""
        return MLPGenerator(self, image)


class MLPDiscriminatorConfig(BaseDiscriminatorConfig):
    """The discriminator's size. It uses leaky ReLUs where the paper has maxout (see `kind: cgan`) and dropout.

    Attributes:
        hidden: number of units of each layer.
        label_dim: length of the class embedding, which is appended to the pixels.
    """

    kind: Literal["mlp"] = "mlp"
    hidden: Hidden = (512, 256)
    label_dim: PositiveInt = 32

    def build(self, image: ImageSpec) -> Discriminator:
        """Build the discriminator for `image`."""
        return MLPDiscriminator(self, image)


class MLPGenerator(Generator):
    """z and class -> hidden layers -> pixels."""

    def __init__(self, config: MLPGeneratorConfig, image: ImageSpec) -> None:
        super().__init__()
        self.image, self.z_dim = image, config.z_dim
        features = config.z_dim
        if image.classes:
            self.embedding = ClassTable(image.classes, config.label_dim, _STYLE)
            features += config.label_dim
        self.layers = linear_layers((features, *config.hidden))
        self.to_image = SpectralLinear(config.hidden[-1], math.prod(image.shape), style=_STYLE)

    def forward(self, z: Tensor, label: Tensor, *, draws: Draws | None = None, truncation: float = 1.0) -> Tensor:
        """Generate images; see `Generator.forward`. Truncation scales z."""
        x = z * truncation
        if self.image.classes:
            x = torch.cat([x, self.embedding(class_weights(label, self.image.classes)).to(x.dtype)], dim=1)
        for layer in self.layers:
            x = F.relu(layer(x))
        return torch.tanh(self.to_image(x).float()).reshape(-1, *self.image.shape)

    def stages(self) -> Sequence[nn.Module]:
        """See Generator."""
        return list(self.layers)


class MLPDiscriminator(Discriminator):
    """Pixels and class -> hidden layers -> logit."""

    def __init__(self, config: MLPDiscriminatorConfig, image: ImageSpec) -> None:
        super().__init__()
        self.image, self.features_dim = image, config.hidden[-1]
        features = math.prod(image.shape)
        if image.classes:
            self.embedding = ClassTable(image.classes, config.label_dim, _STYLE)
            features += config.label_dim
        self.layers = linear_layers((features, *config.hidden))
        self.linear = SpectralLinear(self.features_dim, 1, style=_STYLE)

    def features(self, image: Tensor, label: Tensor) -> list[Tensor]:
        """See Discriminator; the class is among the inputs."""
        x, found = image.flatten(1), []
        if self.image.classes:
            x = torch.cat([x, self.embedding(class_weights(label, self.image.classes)).to(x.dtype)], dim=1)
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2)
            found.append(x)
        return found

    def head(self, feature: Tensor, label: Tensor) -> Tensor:
        """See Discriminator."""
        logits: Tensor = self.linear(feature).squeeze(1).float()
        return logits

    def stages(self) -> Sequence[nn.Module]:
        """See Generator."""
        return list(self.layers)


def linear_layers(widths: Sequence[int]) -> nn.ModuleList:
    """Build fully connected layers from one width to the next."""
    return nn.ModuleList(
        SpectralLinear(features, out_features, style=_STYLE) for features, out_features in pairwise(widths)
    )
