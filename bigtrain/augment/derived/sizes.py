"""Smaller images, and images without colour."""

from typing import Literal

import torch.nn.functional as F
from pydantic import PositiveInt
from torch import Tensor

from bigtrain.augment.derived.base import DerivedField, image_like, in_levels
from bigtrain.core.batch import dense
from bigtrain.core.rng import Draws
from bigtrain.ops.colour import luma, neutral_of
from data_pipelines.fields.spec import FieldSpec

Filter = Literal["bicubic", "bilinear", "area"]


class DownscaleConfig(DerivedField):
    """The image, reduced: the input of super-resolution.

    Attributes:
        scale: integer by which height and width are divided.
        filter: `bicubic` and `bilinear` are antialiased as in Pillow; `area` averages.
    """

    kind: Literal["downscale"]
    scale: PositiveInt
    filter: Filter = "bicubic"

    def spec(self, source: FieldSpec) -> FieldSpec:
        """See DerivedField."""
        return image_like(source, scale=self.scale)

    def compute(self, field: Tensor, draws: Draws) -> Tensor:
        """See DerivedField."""
        height, width = field.shape[2] // self.scale, field.shape[3] // self.scale
        return dense(in_levels(resized(field, (height, width), self.filter)))


class GrayscaleConfig(DerivedField):
    """The brightness of a colour image: the input of colourisation.

    Attributes:
        brightness: `luma` (ITU-R BT.601) is what other programs save as grey images; `lightness` is the grey with the
            same L* (CIE 1976), which `lab_colouriser` reproduces exactly.
    """

    kind: Literal["grayscale"]
    brightness: Literal["luma", "lightness"] = "luma"

    def spec(self, source: FieldSpec) -> FieldSpec:
        """See DerivedField."""
        grey = image_like(source, channels=1)
        if source.shape[0] != 3:
            raise ValueError(f"needs images of 3 channels (red, green, blue), but its source has {source.shape[0]}")
        return grey

    def compute(self, field: Tensor, draws: Draws) -> Tensor:
        """See DerivedField."""
        return dense(in_levels(luma(field) if self.brightness == "luma" else neutral_of(field)))


def resized(image: Tensor, size: tuple[int, int], filter_: Filter) -> Tensor:
    """Return images of another size, [N, C, *size]; smaller ones without aliasing."""
    if filter_ == "area":
        return F.interpolate(image, size=size, mode="area")
    return F.interpolate(image, size=size, mode=filter_, antialias=True, align_corners=False)
