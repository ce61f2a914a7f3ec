"""Fields that are computed from videos: some of the frames, such as the first as input and the next ones as target."""

from dataclasses import replace
from typing import Literal

from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor

from bigtrain.augment.derived.base import DerivedField
from bigtrain.core.rng import Draws
from data_pipelines.fields.spec import FieldSpec


class FramesConfig(DerivedField):
    """Consecutive frames of a video.

    Attributes:
        first: number of the first of them, from 0.
        count: how many.
    """

    kind: Literal["frames"]
    of: str = "video"
    first: NonNegativeInt = 0
    count: PositiveInt

    def spec(self, source: FieldSpec) -> FieldSpec:
        """See DerivedField."""
        if source.kind != "video":
            raise ValueError(f"needs videos, and its source has the kind '{source.kind}'")
        if self.first + self.count > source.shape[0]:
            raise ValueError(f"first {self.first} and count {self.count}: the videos have {source.shape[0]} frames")
        return replace(source, shape=(self.count, *source.shape[1:]))

    def compute(self, field: Tensor, draws: Draws) -> Tensor:
        """See DerivedField."""
        return field[:, self.first : self.first + self.count]
