"""Images with holes: what inpainting networks read."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

_ROUNDS = 4
"""Of smoothing at each size: interpolated values become means of 3x3, as diffusion would make them in the end."""


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


def smoothly_filled(picture: Tensor, holes: Tensor) -> Tensor:
    """Fill holes with averages of what is known around them: the wider, the deeper in the hole.

    Means of known pixels are taken over squares of 2, 4, 8, … pixels, and interpolated back where pixels are missing
    (push and pull; Gortler et al. 1996, The Lumigraph, section 3.4). There are no weights to learn.

    Args:
        picture: shape [N, C, H, W].
        holes: where pixels are missing, bool, shape [N, 1, H, W].

    Returns:
        Float32, shape [N, C, H, W], equal to the picture outside of holes; 0 for pictures without a known pixel.
    """
    known = (~holes).float()
    levels = [(picture.float() * known, known)]
    while max(levels[-1][0].shape[2:]) > 1:
        means, share = (F.avg_pool2d(one, 2, ceil_mode=True, count_include_pad=False) for one in levels[-1])
        weight = (4 * share).clamp(max=1)
        levels.append((means / share.clamp(min=1e-8) * weight, weight))
    filled, _ = levels.pop()
    while levels:
        means, weight = levels.pop()
        around = F.interpolate(filled, size=means.shape[2:], mode="bilinear", align_corners=False)
        filled = means + (1 - weight) * around
        for _ in range(_ROUNDS):
            around = F.avg_pool2d(F.pad(filled, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
            filled = means + (1 - weight) * around
    return filled
