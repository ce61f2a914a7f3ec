"""Discriminators of patches at several scales (Wang et al. 2018, pix2pixHD, section 3.2)."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from bigtrain.models.base import ImageSpec
from bigtrain.models.translator import BasePatchDiscriminatorConfig, PatchDiscriminator, TranslationDiscriminatorConfig


class MultiScalePatchDiscriminatorConfig(BasePatchDiscriminatorConfig):
    """Several of one discriminator of patches, each with weights of its own.

    Attributes:
        base: each of them.
        scales: how many; the last one sees images 2^(scales - 1) times smaller.
    """

    kind: Literal["multi_scale"] = "multi_scale"
    base: TranslationDiscriminatorConfig
    scales: int = Field(default=2, ge=2)

    def build(self, image: ImageSpec, condition: ImageSpec | None = None) -> "MultiScalePatchDiscriminator":
        """Build them for `image` beside `condition`.

        Raises:
            ValueError: the images cannot be halved so often, or the base cannot be built for the smallest.
        """
        return MultiScalePatchDiscriminator(self, image, condition)


class MultiScalePatchDiscriminator(PatchDiscriminator):
    """The losses of the scales are added up: after a forward, `opinions` says how many logits each has."""

    def __init__(
        self, config: MultiScalePatchDiscriminatorConfig, image: ImageSpec, condition: ImageSpec | None
    ) -> None:
        super().__init__()
        self.image, self.condition = image, condition
        smallest = 2 ** (config.scales - 1)
        if any(side % smallest for side in image.shape[1:]):
            raise ValueError(
                f"multi_scale: an image of {image.resolution} pixels cannot be halved {config.scales - 1} times"
            )
        self.scales = nn.ModuleList()
        for factor in (2**number for number in range(config.scales)):
            beside = None if condition is None else smaller(condition, factor)
            self.scales.append(config.base.build(smaller(image, factor), beside))

    def features(self, image: Tensor, condition: Tensor | None = None) -> list[Tensor]:
        """Return the activations of all scales, fine to coarse, and last all logits, [N, logits of all]."""
        found, logits = [], []
        for number, scale in enumerate(self.scales):
            if number:
                image, condition = (None if one is None else F.avg_pool2d(one, 2) for one in (image, condition))
            inner = scale.features(image, condition)
            found += inner
            logits.append(scale.head(inner[-1]).flatten(1))
        self.opinions = tuple(part.shape[1] for part in logits)  # images of any size may be given
        return [*found, torch.cat(logits, dim=1)]

    def head(self, feature: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return the logits, float32, shape [N, logits of all scales]."""
        return feature.float()

    def stages(self) -> Sequence[nn.Module]:
        """See `PatchDiscriminator.stages`."""
        return [stage for scale in self.scales for stage in scale.stages()]


def smaller(image: ImageSpec, factor: int) -> ImageSpec:
    """Return images with sides divided by a factor."""
    width = None if image.width is None else image.width // factor
    return replace(image, resolution=image.resolution // factor, width=width)
