"""Convert images in [-1, 1] to uint8."""

import torch
from torch import Tensor


def to_uint8(image: Tensor) -> Tensor:
    """Quantise images from [-1, 1] to uint8, rounding to the nearest and clamping."""
    return ((image.float() + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8)
