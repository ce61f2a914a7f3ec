"""Images with holes: what inpainting networks read."""

from typing import NamedTuple

import torch
from torch import Tensor


class WithHoles(NamedTuple):
    """An image and its holes.

    Attributes:
        picture: in [-1, 1] and black in holes, shape [N, C, H, W].
        known: 1 where the picture is known, -1 in holes, shape [N, 1, H, W].
        holes: where they are, bool, shape [N, 1, H, W].
    """

    picture: Tensor
    known: Tensor
    holes: Tensor

    @property
    def image(self) -> Tensor:
        """Both as one image, shape [N, C + 1, H, W]."""
        return torch.cat([self.picture, self.known], 1)


def with_holes(image: Tensor) -> WithHoles:
    """Split an image with a transparency channel, which is a hole where it is more than half transparent.

    Image programs keep colours of transparent pixels, which training never shows: they are made black.
    """
    holes = image[:, -1:] < 0
    known = torch.where(holes, -1.0, 1.0).to(image.dtype)
    return WithHoles(image[:, :-1].masked_fill(holes, -1.0), known, holes)
