"""The resize that published FID was computed with."""

import torch
from torch import Tensor


def resize_like_tensorflow1(image: Tensor, size: int) -> Tensor:
    """Resize bilinearly as TensorFlow 1 did: no antialiasing, and pixels lie at their corners (x_in = x_out * scale).

    Columns first, then rows, each as `low + (high - low) * weight` in float32: bit by bit what torch-fidelity's
    `interpolate_bilinear_2d_like_tensorflow1x` computes, with a fraction of its work.

    Args:
        image: float32, shape [N, C, H, W].
        size: height and width of the result.

    Returns:
        Shape [N, C, size, size].
    """
    height, width = image.shape[2:]
    top, bottom, down = _taps(height, size, image.device)
    left, right, across = _taps(width, size, image.device)
    if height > 2 * size:  # most rows are not read at all
        image = image[:, :, torch.stack([top, bottom], 1).flatten()]
        top = torch.arange(0, 2 * size, 2, device=image.device)
        bottom = top + 1
    low = image[:, :, :, left]
    wide = low + (image[:, :, :, right] - low) * across
    low = wide[:, :, top]
    return low + (wide[:, :, bottom] - low) * down[:, None]


def _taps(length: int, size: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Return for each of `size` outputs the two inputs that it lies between, and its place between them."""
    place = torch.arange(size, dtype=torch.float32, device=device) * torch.tensor(length / size, dtype=torch.float32)
    low = place.long()
    return low, (low + 1).clamp_max(length - 1), place - low.float()
