"""Cut images to the size that the networks see."""

import torch
from torch import Tensor

from bigtrain.core.rng import Draws

Size = tuple[int, int]
"""Height and width in pixels."""


def center_crop(images: Tensor, size: Size) -> Tensor:
    """Return the middle of images, shape [N, C, H, W]; half a pixel is left off at the bottom and on the right."""
    top, left = ((have - want) // 2 for have, want in zip(images.shape[2:], size, strict=True))
    return images[:, :, top : top + size[0], left : left + size[1]]


def random_crop(images: Tensor, size: Size, draws: Draws) -> Tensor:
    """Cut each image, shape [N, C, H, W], at a place of its own, uniform over all that fit.

    Returns:
        Shape [N, C, *size], in channels_last memory.
    """
    (height, width), (high, wide) = size, images.shape[2:]
    top = draws.of("top").integers(high - height + 1)
    left = draws.of("left").integers(wide - width + 1)
    rows = top.reshape(-1, 1, 1) + torch.arange(height, device=images.device).reshape(1, -1, 1)
    columns = left.reshape(-1, 1, 1) + torch.arange(width, device=images.device).reshape(1, 1, -1)
    numbers = torch.arange(len(images), device=images.device).reshape(-1, 1, 1)
    return images[numbers, :, rows, columns].permute(0, 3, 1, 2)
