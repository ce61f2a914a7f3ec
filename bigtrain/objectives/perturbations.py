"""Small changes of an image that should not change D's mind."""

import torch
from torch import Tensor

from bigtrain.core.rng import Draws


def flip_and_shift(image: Tensor, draws: Draws, *, reach: int = 4) -> Tensor:
    """Mirror half of the images, and shift each by up to `reach` pixels either way; borders repeat.

    Args:
        image: shape [N, C, H, W].
        draws: one sample each.
        reach: largest shift along an axis, in pixels.

    Returns:
        The same shape, differentiable.
    """
    down, right = (draws.of("shift").integers(2 * reach + 1, 2) - reach).unbind(1)
    mirrored = draws.of("flip").integers(2, 1).bool()
    height, width = image.shape[2:]
    rows = (torch.arange(height, device=image.device) + down[:, None]).clamp(0, height - 1)
    columns = (torch.arange(width, device=image.device) + right[:, None]).clamp(0, width - 1)
    columns = torch.where(mirrored, columns.flip(1), columns)
    samples = torch.arange(len(image), device=image.device)
    moved = image[samples[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    return moved.permute(0, 3, 1, 2)
