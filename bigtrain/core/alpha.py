"""Composite images with an alpha channel onto white, for pictures and feature extractors."""

import torch
from torch import Tensor


def opaque(image: Tensor) -> Tensor:
    """Lay images over white.

    Args:
        image: uint8, shape [N, C, H, W], C = 1 (grey), 2 (grey and alpha), 3 (RGB) or 4 (RGB and alpha).

    Returns:
        uint8, shape [N, 1 or 3, H, W]; images without alpha as they are.
    """
    channels = image.shape[1]
    if channels not in (2, 4):
        return image
    colour, alpha = image[:, :-1].float(), image[:, -1:].float() / 255.0
    return (colour * alpha + 255.0 * (1.0 - alpha)).round().to(torch.uint8)
