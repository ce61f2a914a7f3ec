"""What JPEG compression leaves of an image (ITU-T T.81, with the usual tables of its annex K)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

_LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMINANCE = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8,) * 4,
)
_TO_YCBCR = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
_TO_RGB = ((1.0, 0.0, 1.402), (1.0, -0.344136, -0.714136), (1.0, 1.772, 0.0))


def compressed(image: Tensor, quality: Tensor) -> Tensor:
    """Return images after compression, colours at half the resolution, as libjpeg writes them by default.

    Args:
        image: in [-1, 1], shape [N, 1 or 3, H, W].
        quality: 1 to 100 of each, shape [N].

    Returns:
        Images in [-1, 1] of the same shape.
    """
    levels = (image.float() + 1) * 127.5
    height, width = levels.shape[2:]
    scale = _scale(quality)
    if levels.shape[1] == 1:
        made = _through_blocks(levels, _table(_LUMINANCE, scale))
        return (made.clamp(0, 255) / 127.5 - 1).to(image.dtype)
    ycc = F.pad(_mixed(levels, _TO_YCBCR), (0, -width % 2, 0, -height % 2), mode="replicate")
    light = _through_blocks(ycc[:, :1], _table(_LUMINANCE, scale))
    colour = _through_blocks(F.avg_pool2d(ycc[:, 1:], 2) + 128, _table(_CHROMINANCE, scale)) - 128
    colour = F.interpolate(colour, scale_factor=2, mode="bilinear", align_corners=False)
    made = _mixed(torch.cat([light, colour], 1), _TO_RGB)[:, :, :height, :width]
    return (made.clamp(0, 255) / 127.5 - 1).to(image.dtype)


def _scale(quality: Tensor) -> Tensor:
    """Return the factor on the tables, in percent, as libjpeg derives it from a quality."""
    quality = quality.round().clamp(1, 100)
    return torch.where(quality < 50, (5000 / quality).floor(), 200 - 2 * quality)


def _table(table: tuple[tuple[int, ...], ...], scale: Tensor) -> Tensor:
    """Return each image's table, shape [N, 1, 1, 1, 8, 8]."""
    base = torch.tensor(table, device=scale.device, dtype=torch.float32)
    scaled = ((base * scale.reshape(-1, 1, 1) + 50) / 100).floor().clamp(1, 255)
    return scaled[:, None, None, None]


def _through_blocks(plane: Tensor, table: Tensor) -> Tensor:
    """Quantise the cosine transform of blocks of 8x8; `plane` is [N, C, H, W] in levels of 0 to 255."""
    count, channels, height, width = plane.shape
    padded = F.pad(plane, (0, -width % 8, 0, -height % 8), mode="replicate") - 128
    rows, columns = padded.shape[2] // 8, padded.shape[3] // 8
    blocks = padded.reshape(count, channels, rows, 8, columns, 8).transpose(3, 4)
    transform = _cosines(plane.device)
    coefficients = transform @ blocks @ transform.T
    kept = (coefficients / table).round() * table
    restored = (transform.T @ kept @ transform).transpose(3, 4).reshape(padded.shape) + 128
    return restored[:, :, :height, :width].round().clamp(0, 255)


def _cosines(device: torch.device) -> Tensor:
    """Return the orthonormal cosine transform of 8 values as a matrix."""
    index = torch.arange(8, device=device, dtype=torch.float32)
    matrix = torch.cos(math.pi / 8 * (index + 0.5) * index[:, None]) / 2
    return torch.cat([matrix[:1] / math.sqrt(2), matrix[1:]])


def _mixed(image: Tensor, matrix: tuple[tuple[float, ...], ...]) -> Tensor:
    """Multiply the channels by a matrix."""
    weight = torch.tensor(matrix, device=image.device, dtype=image.dtype)
    return torch.einsum("oc,nchw->nohw", weight, image)
