"""Edges of images, the target of the first stage of EdgeConnect (Nazeri et al. 2019)."""

from typing import Literal

from pydantic import NonNegativeFloat, PositiveFloat, model_validator
from torch import Tensor

from bigtrain.augment.derived.base import DerivedField, image_like
from bigtrain.augment.derived.damage import check_order
from bigtrain.core.batch import dense
from bigtrain.core.rng import Draws
from bigtrain.ops.edges import edge_map
from data_pipelines.fields.spec import FieldSpec


class EdgesConfig(DerivedField):
    """The edges of an image (Canny 1986): white lines on black.

    Attributes:
        sigma: deviation of the Gaussian filter before the gradients, in pixels.
        thresholds: gradient above which a pixel continues an edge, and gradient above which it begins one: |dx| + |dy|
            of Sobel's 3x3 filters on values from 0 to 255, as OpenCV counts.
    """

    kind: Literal["edges"]
    sigma: NonNegativeFloat = 2.0
    thresholds: tuple[PositiveFloat, PositiveFloat] = (25.0, 50.0)

    @model_validator(mode="after")
    def _thresholds_are_in_order(self) -> "EdgesConfig":
        check_order("thresholds", self.thresholds)
        return self

    def spec(self, source: FieldSpec) -> FieldSpec:
        """See DerivedField."""
        if source.kind == "image" and source.shape[0] not in (1, 3):
            raise ValueError(f"needs grey or RGB images, but its source has {source.shape[0]} channels")
        return image_like(source, channels=1)

    def compute(self, field: Tensor, draws: Draws) -> Tensor:
        """See DerivedField."""
        edges, _ = edge_map(field, self.sigma, *self.thresholds)
        return dense(edges.to(field.dtype))
