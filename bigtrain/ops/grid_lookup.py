"""Bilinear look-ups at constant places, with derivatives of every order by the image.

PyTorch's `grid_sample` has no second derivative, and its gradient adds up in any order on GPUs.
"""

from typing import Any

import torch
from torch import Tensor

from bigtrain.core.on_gpus import on_gpu


def look_up(image: Tensor, grid: Tensor) -> Tensor:
    """Interpolate images bilinearly at places that need no gradient; outside of an image there are zeros.

    Args:
        image: shape [N, C, H, W].
        grid: x and y, -1 and 1 being the centres of the outermost pixels, shape [N, h, w, 2].

    Returns:
        Shape [N, C, h, w].
    """
    found: Tensor = _Sample.apply(image, grid)
    return found


class _Sample(torch.autograd.Function):
    """Linear in the image, so that its derivative is the derivative of its derivative."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, grid: Tensor) -> Tensor:
        ctx.save_for_backward(grid)
        ctx.size = image.shape[-2:]
        found: Tensor = torch.ops.aten.grid_sampler_2d(image, grid, 0, 0, True)
        return found

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (grid,) = ctx.saved_tensors
        return _Scatter.apply(grad, grid, ctx.size), None


class _Scatter(torch.autograd.Function):
    """The adjoint of `_Sample`."""

    @staticmethod
    def forward(ctx: Any, grad: Tensor, grid: Tensor, size: tuple[int, int]) -> Tensor:
        ctx.save_for_backward(grid)
        if on_gpu(grad) and torch.are_deterministic_algorithms_enabled():
            return spread_in_order(grad, grid, size)
        image = grad.new_zeros(()).expand(*grad.shape[:2], *size)  # only its shape matters
        spread: Tensor = torch.ops.aten.grid_sampler_2d_backward(grad, image, grid, 0, 0, True, (True, False))[0]
        return spread

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (grid,) = ctx.saved_tensors
        return _Sample.apply(grad, grid), None, None


def spread_in_order(grad: Tensor, grid: Tensor, size: tuple[int, int]) -> Tensor:
    """Compute the gradient of a bilinear `grid_sample` by its image, adding up in one fixed order.

    PyTorch's own adds up on GPUs as threads come, so that its bits do not repeat.

    Args:
        grad: by the result, shape [N, C, h, w].
        grid: where each pixel of the result was looked up, shape [N, h, w, 2], corners at -1 and 1.
        size: H and W of the image.

    Returns:
        Shape [N, C, H, W].
    """
    count, channels, (height, width) = grad.shape[0], grad.shape[1], size
    x, y = ((grid[..., axis] + 1) / 2 * (length - 1) for axis, length in enumerate((width, height)))
    left, top = x.floor(), y.floor()
    image = torch.arange(count, device=grad.device)[:, None, None] * (height * width)
    rows, parts = [], []
    for right in (0, 1):
        for down in (0, 1):
            column, row = left + right, top + down
            inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
            weight = (1 - (x - column).abs()) * (1 - (y - row).abs()) * inside
            place = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)
            rows.append((image + place.long()).flatten())
            parts.append((grad * weight[:, None]).permute(0, 2, 3, 1).reshape(-1, channels))
    spread = grad.new_zeros(count * height * width, channels)
    spread.index_put_((torch.cat(rows),), torch.cat(parts), accumulate=True)
    return spread.view(count, height, width, channels).permute(0, 3, 1, 2)
