"""r-GAN: fully connected layers from latents to point clouds (Achlioptas et al. 2018, section 4 and appendix).

A cloud is [N, 3]. The discriminator is that of PointNet (Qi et al. 2017): the same layers on every point, and the
largest value of each feature over all points, so that the order of the points does not matter. A class is one number
more in G's latent for each that there is; D has a projection (Miyato & Koyama 2018). The paper has no classes.
"""

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn

from bigtrain.core.rng import Draws
from bigtrain.models.base import (
    ArraySpec,
    BaseDiscriminatorConfig,
    BaseGeneratorConfig,
    DataSpec,
    Generator,
)
from bigtrain.models.layers.conditioning import class_weights
from bigtrain.models.layers.projection_discriminator import ProjectionDiscriminator
from bigtrain.models.layers.spectral import SpectralLinear, WeightStyle
from bigtrain.models.mlp import linear_layers

_STYLE = WeightStyle("xavier", spectral=False)
Widths = Annotated[tuple[PositiveInt, ...], Field(min_length=1)]


class RGANGeneratorConfig(BaseGeneratorConfig):
    """The generator's size; the defaults are the paper's.

    Attributes:
        z_dim: length of the latent.
        z_std: standard deviation of the latent inside the network.
        hidden: number of units of each layer before the last; the activation is ReLU.
    """

    kind: Literal["rgan"] = "rgan"
    works_on: ClassVar[type[DataSpec]] = ArraySpec
    z_dim: PositiveInt = 128
    z_std: PositiveFloat = 0.2
    hidden: Widths = (64, 128, 512, 1024)

    def build(self, image: ArraySpec) -> "RGANGenerator":
        """Build the generator of point clouds [N, 3]."""
        return RGANGenerator(self, image)


class RGANDiscriminatorConfig(BaseDiscriminatorConfig):
    """The discriminator's size; the defaults are the paper's.

    Attributes:
        widths: number of features of a point after each of the layers that all points share.
        hidden: number of units of each layer behind the maximum over the points, before the logit.
    """

    kind: Literal["rgan"] = "rgan"
    works_on: ClassVar[type[DataSpec]] = ArraySpec
    widths: Widths = (64, 128, 256, 256, 512)
    hidden: Widths = (128, 64)

    def build(self, image: ArraySpec) -> "RGANDiscriminator":
        """Build the discriminator of point clouds [N, 3]."""
        return RGANDiscriminator(self, image)


class RGANGenerator(Generator):
    """z, class -> fully connected layers -> all coordinates of all points at once."""

    def __init__(self, config: RGANGeneratorConfig, cloud: ArraySpec) -> None:
        super().__init__()
        self.image, self.z_dim, self.z_std = cloud, config.z_dim, config.z_std
        points = _points(cloud)
        self.layers = linear_layers((config.z_dim + cloud.classes, *config.hidden))
        self.to_points = SpectralLinear(config.hidden[-1], 3 * points, style=_STYLE)

    def forward(self, z: Tensor, label: Tensor, *, draws: Draws | None = None, truncation: float = 1.0) -> Tensor:
        """Generate point clouds; see `Generator.forward`. Truncation scales z."""
        x = z * (self.z_std * truncation)
        if self.image.classes:
            x = torch.cat([x, class_weights(label, self.image.classes).to(x.dtype)], dim=1)
        for layer in self.layers:
            x = F.relu(layer(x))
        points: Tensor = self.to_points(x).float().unflatten(1, (-1, 3))
        return points

    def stages(self) -> Sequence[nn.Module]:
        """See Generator."""
        return list(self.layers)


class RGANDiscriminator(ProjectionDiscriminator):
    """Points -> layers that all points share -> maximum over the points -> fully connected layers -> logit.

    It judges clouds of any number of points.
    """

    def __init__(self, config: RGANDiscriminatorConfig, cloud: ArraySpec) -> None:
        _points(cloud)
        *shared, last = linear_layers((3, *config.widths))
        # The maximum comes before the activation, which is applied to fewer numbers so: both orders give the same.
        behind = linear_layers((config.widths[-1], *config.hidden))
        super().__init__(cloud, [*shared, nn.Sequential(last, MaximumOverPoints()), *behind], config.hidden[-1], _STYLE)


class MaximumOverPoints(nn.Module):
    """The largest value of each feature over all points; equal values share the gradient."""

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, points, C] to [N, C]."""
        return x.amax(1)


def _points(cloud: ArraySpec) -> int:
    """Return the number of points of a cloud.

    Raises:
        ValueError: the field does not consist of points in space.
    """
    if len(cloud.shape) != 2 or cloud.shape[1] != 3:
        raise ValueError(f"rgan works on point clouds [N, 3], but the field has the shape {list(cloud.shape)}")
    return cloud.shape[0]
