"""Move, turn and stretch images under a wavelet filter: the resampling of adaptive augmentation.

Karras et al. 2020b (appendix B, algorithm 1): reflect the image beyond its edges, up-sample by two through the
orthogonal wavelet SYM6, look up the transformed positions bilinearly, down-sample by two through the same wavelet.
Nothing aliases, and without a transform the image comes back as it was. `warp_reference` is that sentence in code.

`warp` does not choose a margin by the batch's largest transform. An image that is reflected on and on is periodic, so
one period (twice the image) is up-sampled and positions wrap around: a sample's result never depends on the others, no
number leaves the device, and no transform is too large. Reflection and filter are one banded matrix for each axis, so
that up- and down-sampling are matrix products, which have fast derivatives of every order.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from bigtrain.core.constants import constant
from bigtrain.ops.grid_lookup import look_up
from bigtrain.ops.twins import use_reference
from bigtrain.ops.upfirdn import upfirdn2d_reference

# fmt: off
SYM6 = (
    0.015404109327027373, 0.0034907120842174702, -0.11799011114819057, -0.048311742585633, 0.4910559419267466,
    0.787641141030194, 0.3379294217276218, -0.07263752278646252, -0.021060292512300564, 0.04472490177066578,
    0.0017677118642428036, -0.007800708325034148,
)
# fmt: on
"""The orthogonal low-pass filter "symlet 6" (Daubechies 1992, table 6.3); its squares sum to 1."""

CENTRE = 5
"""The filter is nearly symmetric about this tap: pixel k of the image lies at 2 * k + CENTRE of the up-sampled grid."""

_TAPS = len(SYM6)


def warp(images: Tensor, inverse: Tensor) -> Tensor:
    """Transform each image by its own affine map; differentiable to any order in the images.

    Args:
        images: shape [N, C, H, W] with H, W >= 2, float32 or float64.
        inverse: where a pixel of the result comes from, shape [N, 2, 3]: `[x, y, 1]` to `[x, y]`, in pixels from the
            centre of the image, x to the right and y down.

    Returns:
        Shape [N, C, H, W].
    """
    if use_reference():
        return warp_reference(images, inverse)
    *_, height, width = images.shape
    inverse = inverse.to(images.dtype)
    where = images.dtype, images.device
    fine = along_axes(images.contiguous(), _upsampling(height, *where), _upsampling(width, *where))
    found = look_up(fine, _periodic_grid(inverse, height, width))
    return along_axes(found, _downsampling(height, *where), _downsampling(width, *where))


def warp_reference(images: Tensor, inverse: Tensor) -> Tensor:
    """Compute the same as `warp` as the paper reads, with a margin of two images and the filter on each side."""
    *_, height, width = images.shape
    top, left = (2 * size + _TAPS for size in (height, width))
    rows = reflected(torch.arange(-top, height + top, device=images.device), height)
    columns = reflected(torch.arange(-left, width + left, device=images.device), width)
    padded = images[:, :, rows[:, None], columns]
    line = images.new_tensor(SYM6)
    fir = torch.outer(line, line)
    fine = upfirdn2d_reference(padded, fir, up=2, padding=(_TAPS - 1,) * 4)
    y, x = (torch.arange(2 * size + _TAPS - 2, device=images.device) - CENTRE for size in (height, width))
    y, x = torch.meshgrid((y - (height - 1)) / 2, (x - (width - 1)) / 2, indexing="ij")
    position = torch.stack([x, y, torch.ones_like(x)], -1).to(images.dtype) @ inverse.to(images.dtype).mT[:, None]
    index = 2 * position + images.new_tensor([width - 1 + 2 * left, height - 1 + 2 * top]) + CENTRE
    grid = 2 * index / (images.new_tensor([fine.shape[3], fine.shape[2]]) - 1) - 1
    found = F.grid_sample(fine, grid, align_corners=True)
    return upfirdn2d_reference(found, fir.flip(0, 1), down=2)


def reflected(index: Tensor, size: int) -> Tensor:
    """Return which pixel stands at each index when an image of `size` pixels is mirrored at its edges for ever."""
    period = 2 * (size - 1)
    index = index % period
    return torch.minimum(index, period - index)


def along_axes(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Apply one matrix along the height of images and one along their width: [h, H] and [w, W], or one a sample."""
    return rows @ images @ columns.mT


@constant
def _upsampling(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the matrix that up-samples one period of a reflected line: shape [4 * size - 2, size]."""
    matrix = torch.zeros(4 * size - 2, size, dtype=torch.float64)
    for tap, weight in enumerate(SYM6):
        fine = torch.arange(tap % 2, 4 * size - 2, 2)
        matrix[fine, reflected((fine - tap) // 2, size)] += weight
    return matrix.to(device, dtype)


@constant
def _downsampling(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the matrix that down-samples a line, with what its filter needs around it: [size, 2 * size + 10]."""
    matrix = torch.zeros(size, 2 * size + _TAPS - 2, dtype=torch.float64)
    pixel = torch.arange(size)
    for tap, weight in enumerate(SYM6):
        matrix[pixel, 2 * pixel + tap] = weight
    return matrix.to(device, dtype)


def _periodic_grid(inverse: Tensor, height: int, width: int) -> Tensor:
    """Return where to look in one up-sampled period, as `grid_sample` counts: shape [N, 2 * H + 10, 2 * W + 10, 2]."""
    x, y = (
        torch.arange(2 * size + _TAPS - 2, dtype=inverse.dtype, device=inverse.device) - (size - 1 + CENTRE)
        for size in (width, height)
    )
    indices = []
    for axis, size in enumerate((width, height)):
        period = 4 * (size - 1)
        from_x, from_y, shift = (inverse[:, axis] / period).unbind(1)
        offset = 2 * shift + (size - 1 + CENTRE) / period
        turns = torch.outer(from_x, x)[:, None] + (torch.outer(from_y, y) + offset[:, None])[:, :, None]
        indices.append((turns - turns.floor()) * (2 * period / (period + 1)) - 1)
    return torch.stack(indices, dim=-1)
