"""Discriminators at several scales: each judges the image at half the resolution of the one before.

Wang et al. 2018 (pix2pixHD), section 3.2.
"""

import math
from dataclasses import replace
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from bigtrain.models.base import BaseDiscriminatorConfig, Discriminator, DiscriminatorConfig, ImageSpec


class MultiScaleDiscriminatorConfig(BaseDiscriminatorConfig):
    """Several copies of a discriminator, which judge at different resolutions.

    Attributes:
        base: the discriminator that is copied.
        scales: number of copies; the last one sees the image reduced by 2^(scales - 1).
    """

    kind: Literal["multi_scale"] = "multi_scale"
    base: DiscriminatorConfig
    scales: int = Field(default=3, ge=2)

    def build(self, image: ImageSpec) -> "MultiScaleDiscriminator":
        """Build them for `image`."""
        return MultiScaleDiscriminator(self, image)


class MultiScaleDiscriminator(Discriminator):
    """K discriminators with weights of their own; their logits have shape [N, K]."""

    def __init__(self, config: MultiScaleDiscriminatorConfig, image: ImageSpec) -> None:
        super().__init__()
        self.image = image
        smallest = 2 ** (config.scales - 1)
        if any(side % smallest for side in image.shape[1:]):
            raise ValueError(f"an image of {image.resolution} pixels cannot be halved {config.scales - 1} times")
        self.scales = nn.ModuleList(config.base.build(_smaller(image, 2**scale)) for scale in range(config.scales))
        self.widths: list[int] = [discriminator.features_dim for discriminator in self._discriminators()]
        self.features_dim = sum(self.widths)
        self.group = math.lcm(*(discriminator.group for discriminator in self._discriminators()))

    def features(self, image: Tensor, label: Tensor) -> list[Tensor]:
        """Return the activations of all scales, fine to coarse; the last one is all last features side by side."""
        inner, last = [], []
        for discriminator in self._discriminators():
            *found, feature = discriminator.features(image, label)
            inner += found
            last.append(feature)
            image = F.avg_pool2d(image, 2)
        return [*inner, torch.cat(last, dim=1)]

    def head(self, feature: Tensor, label: Tensor) -> Tensor:
        """Turn the last features [N, features_dim] into logits, float32, shape [N, K]."""
        parts = torch.split(feature, self.widths, dim=1)
        heads = [scale.head(part, label) for scale, part in zip(self._discriminators(), parts, strict=True)]
        return torch.stack(heads, dim=1)

    def stages(self) -> list[nn.Module]:
        """See Discriminator."""
        return [stage for discriminator in self._discriminators() for stage in discriminator.stages()]

    def _discriminators(self) -> list[Discriminator]:
        return [scale for scale in self.scales if isinstance(scale, Discriminator)]


def _smaller(image: ImageSpec, factor: int) -> ImageSpec:
    width = None if image.width is None else image.width // factor
    return replace(image, resolution=image.resolution // factor, width=width)
