"""Label maps, the input of semantic synthesis, from images that show labels as colours."""

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from bigtrain.augment.derived.base import DerivedField, image_like
from bigtrain.core.batch import dense
from bigtrain.core.rng import Draws
from data_pipelines.fields.spec import FieldSpec

Level = Annotated[int, Field(ge=0, le=255)]


class LabelMapConfig(DerivedField):
    """A label map: an image of one channel whose values are indices of a palette's colours.

    Attributes:
        colours: red, green and blue, from 0 to 255, of label 0, 1 and so on; each pixel gets the label of the nearest
            colour.
    """

    kind: Literal["label_map"]
    colours: tuple[tuple[Level, Level, Level], ...] = Field(min_length=2, max_length=255)

    def spec(self, source: FieldSpec) -> FieldSpec:
        """See DerivedField."""
        labels = image_like(source, channels=1)
        if source.shape[0] != 3:
            raise ValueError(f"needs images of 3 channels (red, green, blue), but its source has {source.shape[0]}")
        return labels

    def compute(self, field: Tensor, draws: Draws) -> Tensor:
        """See DerivedField."""
        palette = torch.tensor(self.colours, device=field.device, dtype=field.dtype) / 127.5 - 1
        least = (field - palette[0, :, None, None]).square().sum(1, keepdim=True)
        label = torch.zeros_like(least)
        for number in range(1, len(palette)):  # one colour at a time, so that memory does not grow with their number
            distance = (field - palette[number, :, None, None]).square().sum(1, keepdim=True)
            label = torch.where(distance < least, float(number), label)
            least = torch.minimum(least, distance)
        return dense(label / 127.5 - 1)
