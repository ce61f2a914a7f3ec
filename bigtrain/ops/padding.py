"""Padding of images and sounds by their own values, with derivatives of every order and the same result at every call.

PyTorch adds up the gradients of repeated pixels by atomic additions on a GPU, in any order: two runs of the same
training would differ in their last bits. There the padding is put together from slices, whose gradients are added in a
fixed order.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from bigtrain.ops.twins import use_reference

BorderMode = Literal["reflect", "replicate"]
PaddingMode = Literal[BorderMode, "zero"]
"""The image mirrored at its border pixels, its border pixels repeated, or zeros."""


def pad2d(x: Tensor, amount: int, mode: PaddingMode) -> Tensor:
    """Pad images on all four sides.

    Args:
        x: shape [N, C, H, W]; `reflect` needs sides that are larger than `amount`.
        amount: pixels on each side.
        mode: what they hold.

    Returns:
        Shape [N, C, H + 2 * amount, W + 2 * amount].
    """
    if mode == "zero":
        return F.pad(x, (amount,) * 4)
    if x.device.type == "cpu" or use_reference():
        return F.pad(x, (amount,) * 4, mode=mode)
    return pad_by_slices(x, amount, mode)


def mirror1d(x: Tensor, before: int, after: int) -> Tensor:
    """Mirror sounds at their ends.

    Args:
        x: shape [N, C, L], longer than either amount.
        before: values in front.
        after: values behind.

    Returns:
        Shape [N, C, before + L + after].
    """
    if x.device.type == "cpu" or use_reference():
        return F.pad(x, (before, after), mode="reflect")
    return mirror_by_slices(x, before, after)


def mirror_by_slices(x: Tensor, before: int, after: int) -> Tensor:
    """Compute `mirror1d` by slicing and concatenation."""
    size = x.shape[2]
    return torch.cat([x.narrow(2, 1, before).flip(2), x, x.narrow(2, size - after - 1, after).flip(2)], 2)


def pad_by_slices(x: Tensor, amount: int, mode: BorderMode) -> Tensor:
    """Compute `pad2d` by slicing and concatenation."""
    for dim in (3, 2):
        size = x.shape[dim]
        if mode == "reflect":
            before, after = x.narrow(dim, 1, amount).flip(dim), x.narrow(dim, size - amount - 1, amount).flip(dim)
        else:
            before = torch.cat([x.narrow(dim, 0, 1)] * amount, dim)
            after = torch.cat([x.narrow(dim, size - 1, 1)] * amount, dim)
        x = torch.cat([before, x, after], dim)
    return x
