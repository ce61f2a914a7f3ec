"""An image beside a coarse one, which dual discrimination shows a discriminator (Chan et al. 2022, section 4.3)."""

from typing import ClassVar, Literal

import torch
from pydantic import PositiveInt
from torch import Tensor

from bigtrain.augment.derived.base import DerivedField, image_like
from bigtrain.augment.derived.sizes import resized
from bigtrain.core.batch import dense
from bigtrain.core.rng import Draws
from data_pipelines.fields.spec import FieldSpec


class DualConfig(DerivedField):
    """The image, and behind its channels those of the image reduced to a resolution and enlarged again.

    A generator makes both: its image, and the coarse one that was rendered. Samples are the image.

    Attributes:
        resolution: shorter side of the reduced image.
    """

    invertible: ClassVar[bool] = True

    kind: Literal["dual"]
    resolution: PositiveInt

    def spec(self, source: FieldSpec) -> FieldSpec:
        """See DerivedField."""
        shorter = min(image_like(source).shape[1:])
        if shorter % self.resolution:
            raise ValueError(f"resolution {self.resolution} does not divide images whose shorter side is {shorter}")
        return image_like(source, channels=2 * source.shape[0])

    def compute(self, field: Tensor, draws: Draws) -> Tensor:
        """See DerivedField."""
        height, width = field.shape[2:]
        scale = min(height, width) // self.resolution
        coarse = resized(field, (height // scale, width // scale), "bilinear")
        return dense(torch.cat([field, resized(coarse, (height, width), "bilinear")], dim=1))

    def invert(self, field: Tensor, draws: Draws) -> Tensor:
        """See DerivedField: the image, without the coarse one."""
        return field[:, : field.shape[1] // 2]
