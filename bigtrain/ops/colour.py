"""Colours as lightness and two axes of hue: CIE L*a*b* of sRGB, differentiable in both directions.

CIE 15:2004 for L*a*b*, IEC 61966-2-1 for sRGB and its white, D65.
"""

import torch
from torch import Tensor

_XYZ_OF_RGB = (
    (0.4124564, 0.3575761, 0.1804375),
    (0.2126729, 0.7151522, 0.0721750),
    (0.0193339, 0.1191920, 0.9503041),
)
_RGB_OF_XYZ: tuple[tuple[float, ...], ...] = tuple(
    tuple(row) for row in torch.linalg.inv(torch.tensor(_XYZ_OF_RGB, dtype=torch.float64)).tolist()
)
_WHITE = tuple(sum(row) for row in _XYZ_OF_RGB)
"""X, Y, Z of the colour with red, green and blue at 1: neutral colours have a = b = 0."""

_LUMA = (0.299, 0.587, 0.114)
"""Shares of red, green and blue in brightness (ITU-R BT.601), as Pillow's mode L has them."""

_DELTA = 6 / 29
_LINEAR_BELOW = 0.0031308
"""Linear values below which sRGB's curve is a straight line."""


def luma(image: Tensor) -> Tensor:
    """Return the brightness of RGB images [N, 3, H, W], shape [N, 1, H, W]."""
    red, green, blue = (image[:, channel : channel + 1] for channel in range(3))
    return _LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue


def lab_of(image: Tensor) -> Tensor:
    """Return L* (0 to 100), a* and b* (about -110 to 110) of colours.

    Args:
        image: sRGB in [-1, 1], float32 or wider, shape [N, 3, H, W].

    Returns:
        Shape [N, 3, H, W].
    """
    x, y, z = (_cube_root(value / white) for value, white in zip(_xyz_of(image), _WHITE, strict=True))
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], 1)


def rgb_of(lab: Tensor) -> Tensor:
    """Return the colours of L*, a* and b*.

    Args:
        lab: float32 or wider, shape [N, 3, H, W].

    Returns:
        sRGB, shape [N, 3, H, W]: in [-1, 1] where a screen can show the colour, and beyond it elsewhere, so that a loss
        has a gradient there too.
    """
    lightness, a, b = lab.unbind(1)
    y = (lightness + 16) / 116
    xyz = [_cube(value) * white for value, white in zip((y + a / 500, y, y - b / 200), _WHITE, strict=True)]
    return 2 * _curved(torch.stack(_mixed(xyz, _RGB_OF_XYZ), 1)) - 1


def lightness_of(image: Tensor) -> Tensor:
    """Return L* of colours.

    Args:
        image: sRGB in [-1, 1], shape [N, 3, H, W]; or grey, shape [N, 1, H, W].

    Returns:
        From 0 to 100, shape [N, 1, H, W].
    """
    if image.shape[1] == 1:
        return 116 * _cube_root(_linear((image + 1) / 2)) - 16
    return 116 * _cube_root(_luminance(image)) - 16


def neutral_of(image: Tensor) -> Tensor:
    """Return the greys that are as light as colours are.

    Args:
        image: sRGB in [-1, 1], shape [N, 3, H, W].

    Returns:
        In [-1, 1], shape [N, 1, H, W]; `lightness_of` finds the same in both.
    """
    return 2 * _curved(_luminance(image)) - 1


def _luminance(image: Tensor) -> Tensor:
    """Return Y relative to white, shape [N, 1, H, W]."""
    return (_xyz_of(image)[1] / _WHITE[1])[:, None]


def _xyz_of(image: Tensor) -> list[Tensor]:
    return _mixed(list(_linear((image + 1) / 2).unbind(1)), _XYZ_OF_RGB)


def _mixed(parts: list[Tensor], matrix: tuple[tuple[float, ...], ...]) -> list[Tensor]:
    """Multiply three values by a matrix; without a product of matrices, which autocast would round to bfloat16."""
    first, second, third = parts
    return [row[0] * first + row[1] * second + row[2] * third for row in matrix]


def _linear(value: Tensor) -> Tensor:
    """Undo sRGB's curve."""
    curve = ((value.clamp(min=0.04045) + 0.055) / 1.055) ** 2.4
    return torch.where(value > 0.04045, curve, value / 12.92)


def _curved(linear: Tensor) -> Tensor:
    """Apply sRGB's curve."""
    curve = 1.055 * linear.clamp(min=_LINEAR_BELOW) ** (1 / 2.4) - 0.055
    return torch.where(linear > _LINEAR_BELOW, curve, 12.92 * linear)


def _cube_root(value: Tensor) -> Tensor:
    """CIE's cube root, a straight line near zero."""
    root = value.clamp(min=_DELTA**3) ** (1 / 3)
    return torch.where(value > _DELTA**3, root, value / (3 * _DELTA**2) + 4 / 29)


def _cube(root: Tensor) -> Tensor:
    """Undo `_cube_root`."""
    return torch.where(root > _DELTA, root**3, 3 * _DELTA**2 * (root - 4 / 29))
