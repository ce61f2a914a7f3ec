"""Edges of grey images (Canny 1986), as OpenCV's `Canny` finds them with its usual 3x3 gradient.

The number of operations does not depend on the values, so that the function can be exported, planned on fake tensors,
and run without waiting for the device.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from bigtrain.ops.colour import luma
from bigtrain.ops.padding import pad2d
from bigtrain.ops.precision import outside_autocast

_TAN_22_5 = 13573 / 2**15
"""OpenCV's fixed-point tangent of 22.5 degrees, the limit between two of the four directions."""

_REACH = 64
"""Pixels that a weak edge is followed for, from a strong one on; OpenCV follows it to its end."""


def edge_map(
    image: Tensor, sigma: float, low: float, high: float, known: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """Return the edges of images, and where they are certain.

    Args:
        image: grey or RGB, in [-1, 1], shape [N, C, H, W].
        sigma: deviation of the Gaussian filter before the gradients, in pixels.
        low: see `canny`.
        high: likewise.
        known: 1 where pixels are known, 0 elsewhere, shape [N, 1, H, W]; None if all are.

    Returns:
        1 at edges and -1 elsewhere, float32, shape [N, 1, H, W]; and, bool and as large, where the gradients and those
        next to them are of known pixels, None if all pixels are known. Elsewhere there are no edges.
    """
    with outside_autocast(image.device.type), torch.no_grad():
        grey = luma(image.float()) if image.shape[1] == 3 else image.float()
        found = canny(smoothed((grey + 1) * 127.5, sigma, known).round(), low, high)
        if known is None:
            return found * 2.0 - 1, None
        settled = F.max_pool2d(1 - known.float(), 5, 1, 2) == 0
        return (found & settled) * 2.0 - 1, settled


def canny(grey: Tensor, low: float, high: float) -> Tensor:
    """Return where edges are.

    Args:
        grey: values from 0 to 255, float, shape [N, 1, H, W].
        low: a pixel whose gradient, |dx| + |dy| of Sobel's filters, is above it and above those of its neighbours
            along the gradient continues an edge.
        high: one whose gradient is above it begins an edge.

    Returns:
        bool, shape [N, 1, H, W].
    """
    dx, dy = _sobel(grey)
    strength = dx.abs() + dy.abs()
    thin = (strength > low) & _is_largest_along(dx, dy, strength)
    return _followed(thin & (strength > high), thin)


def smoothed(image: Tensor, sigma: float, known: Tensor | None = None) -> Tensor:
    """Blur images by a Gaussian filter, where some pixels may be unknown.

    Args:
        image: shape [N, C, H, W].
        sigma: deviation of the filter in pixels; 0 for no blur.
        known: 1 where pixels are known, 0 elsewhere, shape [N, 1, H, W]; None if all are.

    Returns:
        The mean of the known pixels around each pixel; 0 where there are none. Shape [N, C, H, W].
    """
    if not sigma:
        return image if known is None else image * known
    if known is None:
        return _blurred(image, sigma, "replicate")
    shares = _blurred(known, sigma, "zero")
    return _blurred(image * known, sigma, "zero") / shares.clamp(min=1e-6)


def _blurred(image: Tensor, sigma: float, mode: str) -> Tensor:
    radius = math.ceil(3 * sigma)
    places = torch.arange(-radius, radius + 1, device=image.device, dtype=image.dtype)
    row = torch.exp(-0.5 * (places / sigma) ** 2)
    row = (row / row.sum()).reshape(1, 1, 1, -1).repeat(image.shape[1], 1, 1, 1)
    padded = F.pad(image, (radius,) * 4) if mode == "zero" else pad2d(image, radius, "replicate")
    found = F.conv2d(padded, row, groups=image.shape[1])
    return F.conv2d(found, row.mT, groups=image.shape[1])


def _followed(strong: Tensor, weak: Tensor) -> Tensor:
    """Return the strong pixels, and the weak ones that are connected to them, also diagonally."""
    edges = F.pad(strong, (1, 1, 1, 1))
    middle, found = edges[..., 1:-1, :], edges[..., 1:-1, 1:-1]
    columns, rows = torch.empty_like(middle), torch.empty_like(weak)
    for _ in range(_REACH):  # in the same memory, because the images are small and allocations are not free
        torch.bitwise_or(edges[..., :-2, :], middle, out=columns).bitwise_or_(edges[..., 2:, :])
        torch.bitwise_or(columns[..., :-2], columns[..., 1:-1], out=rows).bitwise_or_(columns[..., 2:])
        found.copy_(rows.bitwise_and_(weak))
    return found


def _sobel(grey: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of Sobel's 3x3 filters along x and y; border pixels are repeated."""
    x = pad2d(grey, 1, "replicate")
    rows = x[..., :-2, :] + 2 * x[..., 1:-1, :] + x[..., 2:, :]
    columns = x[..., :-2] + 2 * x[..., 1:-1] + x[..., 2:]
    return rows[..., 2:] - rows[..., :-2], columns[..., 2:, :] - columns[..., :-2, :]


def _is_largest_along(dx: Tensor, dy: Tensor, strength: Tensor) -> Tensor:
    """Tell where the gradient is larger than those of both neighbours along it."""
    height, width = strength.shape[2:]
    padded = F.pad(strength, (1, 1, 1, 1))

    def at(down: int, right: int) -> Tensor:
        return padded[..., 1 + down : 1 + down + height, 1 + right : 1 + right + width]

    across, along = dx.abs(), dy.abs()
    flat = along < across * _TAN_22_5
    steep = along > across * (_TAN_22_5 + 2)  # the tangent of 67.5 degrees is that of 22.5 degrees plus 2
    falling = (dx < 0) != (dy < 0)
    horizontal = flat & (strength > at(0, -1)) & (strength >= at(0, 1))
    vertical = steep & (strength > at(-1, 0)) & (strength >= at(1, 0))
    down = ~falling & (strength > at(-1, -1)) & (strength > at(1, 1))
    up = falling & (strength > at(-1, 1)) & (strength > at(1, -1))
    return horizontal | vertical | (~(flat | steep) & (down | up))  # `where` of bool is nothing that ONNX Runtime has
