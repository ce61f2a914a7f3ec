"""The conditional GAN (Mirza & Osindero 2014), section 4.1: latent and class in branches of their own."""

import math
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import PositiveInt
from torch import Tensor, nn

from bigtrain.core.rng import Draws
from bigtrain.models.base import BaseDiscriminatorConfig, BaseGeneratorConfig, Discriminator, Generator, ImageSpec
from bigtrain.models.layers.conditioning import class_weights
from bigtrain.models.layers.spectral import SpectralLinear, WeightStyle

_STYLE = WeightStyle("xavier", spectral=False)


class CGANGeneratorConfig(BaseGeneratorConfig):
    """The generator's size; the defaults are the paper's for MNIST. Without classes it has one branch.

    Attributes:
        z_dim: length of the latent.
        hidden: number of units in the branch of the latent.
        label_hidden: number of units in the branch of the class.
        joint: number of units in the layer that combines both branches.
    """

    kind: Literal["cgan"] = "cgan"
    z_dim: PositiveInt = 100
    hidden: PositiveInt = 200
    label_hidden: PositiveInt = 1000
    joint: PositiveInt = 1200

    def build(self, image: ImageSpec) -> Generator:
        """Build the generator for `image`."""
        return CGANGenerator(self, image)


class Maxout(NamedTuple):
    """Units, and linear pieces of which each unit takes the largest (Goodfellow et al. 2013)."""

    units: PositiveInt
    pieces: PositiveInt


class CGANDiscriminatorConfig(BaseDiscriminatorConfig):
    """The discriminator's size, as units and pieces of maxout layers; the defaults are the paper's for MNIST.

    Attributes:
        hidden: units and pieces in the branch of the image.
        label_hidden: units and pieces in the branch of the class.
        joint: units and pieces of the layer that combines both branches.
    """

    kind: Literal["cgan"] = "cgan"
    hidden: Maxout = Maxout(240, 5)
    label_hidden: Maxout = Maxout(50, 5)
    joint: Maxout = Maxout(240, 4)

    def build(self, image: ImageSpec) -> Discriminator:
        """Build the discriminator for `image`."""
        return CGANDiscriminator(self, image)


class CGANGenerator(Generator):
    """z and class -> a hidden layer each -> a hidden layer of both -> pixels."""

    def __init__(self, config: CGANGeneratorConfig, image: ImageSpec) -> None:
        super().__init__()
        self.image, self.z_dim = image, config.z_dim
        self.from_z = SpectralLinear(config.z_dim, config.hidden, style=_STYLE)
        features = config.hidden
        if image.classes:
            self.from_label = SpectralLinear(image.classes, config.label_hidden, style=_STYLE)
            features += config.label_hidden
        self.joint = SpectralLinear(features, config.joint, style=_STYLE)
        self.to_image = SpectralLinear(config.joint, math.prod(image.shape), style=_STYLE)

    def forward(self, z: Tensor, label: Tensor, *, draws: Draws | None = None, truncation: float = 1.0) -> Tensor:
        """Generate images; see `Generator.forward`. Truncation scales z."""
        x = F.relu(self.from_z(z * truncation))
        if self.image.classes:
            x = torch.cat([x, F.relu(self.from_label(class_weights(label, self.image.classes)))], dim=1)
        x = F.relu(self.joint(x))
        return torch.tanh(self.to_image(x).float()).reshape(-1, *self.image.shape)


class CGANDiscriminator(Discriminator):
    """Pixels and class -> a maxout layer each -> a maxout layer of both -> logit."""

    def __init__(self, config: CGANDiscriminatorConfig, image: ImageSpec) -> None:
        super().__init__()
        self.image, self.features_dim = image, config.joint.units
        self.from_image = MaxoutLinear(math.prod(image.shape), config.hidden)
        features = config.hidden.units
        if image.classes:
            self.from_label = MaxoutLinear(image.classes, config.label_hidden)
            features += config.label_hidden.units
        self.joint = MaxoutLinear(features, config.joint)
        self.linear = SpectralLinear(self.features_dim, 1, style=_STYLE)

    def features(self, image: Tensor, label: Tensor) -> list[Tensor]:
        """See Discriminator; the class has a branch of its own."""
        x = self.from_image(image.flatten(1))
        if self.image.classes:
            x = torch.cat([x, self.from_label(class_weights(label, self.image.classes))], dim=1)
        return [x, self.joint(x)]

    def head(self, feature: Tensor, label: Tensor) -> Tensor:
        """See Discriminator."""
        logits: Tensor = self.linear(feature).squeeze(1).float()
        return logits


class MaxoutLinear(nn.Module):
    """The largest of several linear functions, a unit."""

    def __init__(self, features: int, shape: Maxout) -> None:
        super().__init__()
        self.shape = shape
        self.linear = SpectralLinear(features, shape.units * shape.pieces, style=_STYLE)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, features] to [N, units]."""
        pieces: Tensor = self.linear(x).unflatten(1, self.shape)
        return pieces.amax(2)
