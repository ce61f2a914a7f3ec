"""Patch discriminators at several scales (Wang et al. 2018, pix2pixHD, section 3.2)."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, cast

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from bigtrain.models.base import ImageSpec
from bigtrain.models.translator import BasePatchDiscriminatorConfig, PatchDiscriminator, TranslationDiscriminatorConfig


class MultiScalePatchDiscriminatorConfig(BasePatchDiscriminatorConfig):
    """Several discriminators of the same kind, each with its own weights and for a size of its own.

    Attributes:
        base: config of each of them.
        scales: number of discriminators; each sees images half as large as the previous one.
    """

    kind: Literal["multi_scale_patch"] = "multi_scale_patch"
    base: TranslationDiscriminatorConfig
    scales: int = Field(default=2, ge=2)

    def build(self, image: ImageSpec, condition: ImageSpec | None = None) -> "MultiScalePatchDiscriminator":
        """Build the discriminators of `image` beside `condition`.

        Raises:
            ValueError: the images cannot be halved so often, or the base cannot be built for the smallest.
        """
        return MultiScalePatchDiscriminator(self, image, condition)


class MultiScalePatchDiscriminator(PatchDiscriminator):
    """The losses of the scales are summed: after a forward, `opinions` contains the number of logits of each scale."""

    def __init__(
        self, config: MultiScalePatchDiscriminatorConfig, image: ImageSpec, condition: ImageSpec | None
    ) -> None:
        super().__init__()
        self.image, self.condition = image, condition
        smallest = 2 ** (config.scales - 1)
        if any(side % smallest for side in image.shape[1:]):
            raise ValueError(
                f"multi_scale_patch: an image of {image.resolution} pixels cannot be halved {config.scales - 1} times"
            )
        self.scales = nn.ModuleList()
        for factor in (2**number for number in range(config.scales)):
            beside = None if condition is None else smaller(condition, factor)
            self.scales.append(config.base.build(smaller(image, factor), beside))

    def features(self, image: Tensor, condition: Tensor | None = None) -> list[Tensor]:
        """Return the activations of all scales, fine to coarse, and finally all logits, [N, logits of all scales]."""
        found, logits = [], []
        for number, scale in enumerate(self._parts()):
            if number:
                image = F.avg_pool2d(image, 2)
                condition = None if condition is None else F.avg_pool2d(condition, 2)
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
        return [stage for scale in self._parts() for stage in scale.stages()]

    def _parts(self) -> Sequence[PatchDiscriminator]:
        return cast(Sequence[PatchDiscriminator], self.scales)


def smaller(image: ImageSpec, factor: int) -> ImageSpec:
    """Return the spec of images whose sides are divided by a factor."""
    width = None if image.width is None else image.width // factor
    return replace(image, resolution=image.resolution // factor, width=width)
