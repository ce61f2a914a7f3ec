"""Images with holes, the input of inpainting: strokes of a brush and rectangles (Yu et al. 2019, section 3.3)."""

import math
from typing import Annotated, Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator
from torch import Tensor

from bigtrain.augment.derived.base import DerivedField, image_like
from bigtrain.augment.derived.damage import between, check_order
from bigtrain.core.batch import dense
from bigtrain.core.rng import Draws
from data_pipelines.fields.spec import FieldSpec

Share = Annotated[float, Field(ge=0, le=1)]


class HolesConfig(DerivedField):
    """The image with holes, and an additional transparency channel: 1 where the image is known, -1 in holes.

    Pixels in holes are black. People give such images as PNGs with transparent places.

    Attributes:
        strokes: maximum number of brush strokes; a sample has at least one. 0 for rectangles alone.
        vertices: maximum number of vertices of a stroke.
        length: minimum and maximum length of a stroke's segments, as shares of the image's smaller side.
        width: minimum and maximum width of a stroke, as shares of the image's smaller side.
        rectangle: minimum and maximum side of a rectangle that is cut out in addition, as shares of the image's smaller
            side; [0, 0] for none.
    """

    kind: Literal["holes"]
    strokes: Annotated[int, Field(ge=0)] = 4
    vertices: PositiveInt = 6
    length: tuple[PositiveFloat, PositiveFloat] = (0.1, 0.4)
    width: tuple[PositiveFloat, PositiveFloat] = (0.06, 0.16)
    rectangle: tuple[NonNegativeFloat, Share] = (0.0, 0.0)

    @model_validator(mode="after")
    def _make_holes(self) -> "HolesConfig":
        for key in ("length", "width", "rectangle"):
            check_order(key, getattr(self, key))
        if not self.strokes and not self.rectangle[0]:
            raise ValueError("strokes is 0 and rectangle may be empty: some samples would have no hole")
        return self

    def spec(self, source: FieldSpec) -> FieldSpec:
        """See DerivedField."""
        if source.kind == "image" and source.shape[0] not in (1, 3):
            raise ValueError(f"needs images without transparency, but its source has {source.shape[0]} channels")
        return image_like(source, channels=source.shape[0] + 1)

    def compute(self, field: Tensor, draws: Draws) -> Tensor:
        """See DerivedField."""
        holes = self._holes(field, draws)[:, None]
        known = torch.where(holes, -1.0, 1.0).to(field.dtype)
        return dense(torch.cat([field.masked_fill(holes, -1.0), known], 1))

    def _holes(self, field: Tensor, draws: Draws) -> Tensor:
        """Return where holes are, bool, shape [N, H, W]."""
        size = (field.shape[2], field.shape[3])
        found = torch.zeros(len(field), *size, dtype=torch.bool, device=field.device)
        if self.strokes:
            found |= self._strokes(size, draws)
        if self.rectangle[1]:
            found |= self._rectangle(size, draws.of("rectangle"))
        return found

    def _strokes(self, size: tuple[int, int], draws: Draws) -> Tensor:
        """Return where broken lines of some width pass, bool, shape [N, H, W]."""
        strokes = [draws.of(f"stroke{number}") for number in range(self.strokes)]

        def uniform(name: str, count: int) -> Tensor:
            return torch.stack([one.of(name).uniform(count) for one in strokes], 1)

        side, ends = min(size), draws.index.new_tensor([size[1], size[0]])
        at = uniform("start", 2) * ends  # [N, strokes, 2], x and y
        turns = 2 * math.pi * uniform("angle", self.vertices)
        lengths = side * between(self.length, uniform("length", self.vertices))
        steps = lengths[..., None] * torch.stack([turns.cos(), turns.sin()], -1)
        radius = side * between(self.width, uniform("width", 1)) / 2
        count = 1 + draws.of("strokes").integers(self.strokes, 1)
        vertices = torch.stack([1 + one.of("vertices").integers(self.vertices, 1)[:, 0] for one in strokes], 1)
        vertices *= torch.arange(self.strokes, device=at.device) < count  # the strokes that there are have some
        columns, rows = (torch.arange(extent, device=at.device) + 0.5 for extent in (size[1], size[0]))
        nearest = torch.full((*at.shape[:2], *size), math.inf, device=at.device)
        for number in range(self.vertices):
            step = steps[:, :, number]
            x, y = columns - at[..., :1], rows - at[..., 1:]
            along = (x * step[..., :1])[..., None, :] + (y * step[..., 1:])[..., None]
            long = step.square().sum(-1)[..., None, None]
            share = (along / long).clamp_(0, 1)
            # |p - share · step|² is |p|² + share · (share · |step|² - 2 p · step); infinite where there is no segment.
            absent = torch.where(number < vertices, 0.0, math.inf)[..., None]
            squared = (x.square() + absent)[..., None, :] + y.square()[..., None]
            squared.addcmul_(share, (share * long).sub_(along, alpha=2))
            torch.minimum(nearest, squared, out=nearest)
            at = torch.minimum((at + step).clamp(min=0), ends.to(at.dtype))
        return (nearest <= radius.square()[..., None]).any(1)

    def _rectangle(self, size: tuple[int, int], draws: Draws) -> Tensor:
        side = min(size)
        x, y = _grid(size, draws)
        extent = side * between(self.rectangle, draws.of("extent").uniform(2))
        room = draws.index.new_tensor([size[1], size[0]]) - extent
        start = room * draws.of("start").uniform(2)
        inside = (x >= start[:, 0, None, None]) & (x < (start + extent)[:, 0, None, None])
        return inside & (y >= start[:, 1, None, None]) & (y < (start + extent)[:, 1, None, None])


def _grid(size: tuple[int, int], draws: Draws) -> tuple[Tensor, Tensor]:
    """Return x and y of the middles of pixels, each [H, W]."""
    y, x = (torch.arange(side, device=draws.index.device) + 0.5 for side in size)
    rows, columns = torch.meshgrid(y, x, indexing="ij")
    return columns, rows
