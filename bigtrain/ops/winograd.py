"""3x3 convolution with a quarter of the products (Winograd 1980; Lavin & Gray 2016, sections 3 and 4).

A tile of 4x4 samples out depends on 6x6 samples in. Each side of a tile takes six products instead of twelve: so many
fixed sums of the samples in, times so many of the taps, are summed up to the samples out. In two dimensions that is

    Y = A^T [(G g G^T) * (B^T d B)] A,

36 products instead of 144, for each pair of a channel in and one out; added up over the channels in, they are 36 matrix
products. The fixed sums are matrix products too. Few tiles at a time go through all of it and stay in a CPU's cache.

The gradient by the weight is the transpose of the same formula: dg = G^T [(B^T d B) * (A dY A^T)] G.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.polynomial.polynomial import polyfromroots
from numpy.typing import NDArray
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils.flop_counter import register_flop_formula

from bigtrain.core.constants import constant

OUT, TAPS = 4, 3
IN = OUT + TAPS - 1
POINTS = (0.0, 2 / 3, -2 / 3, 3 / 2, -3 / 2)
"""Where polynomials are evaluated, besides infinity. Small whole numbers, the usual choice, save multiplications in the
sums, which matrix products do not need, and double the rounding error (Alam et al. 2022 on the choice)."""

_AT_ONCE = 2**15
"""Tiles times channels that a thread takes through the formula together: 4.5 MiB of them in float32."""
_LEAST_CHANNELS, _LEAST_TILES = 128, 64
"""With fewer, the fixed sums take longer than the products that are saved (`benchmarks/train_step.md`)."""

Block = tuple[slice, slice]
"""Samples, and rows of tiles."""


def is_at_hand(x: Tensor) -> bool:
    """Tell whether there is a CPU to compute with; plans ask what GPUs would do."""
    return x.device.type == "cpu" and not isinstance(x, FakeTensor)


def pays(x: Tensor, weight: Tensor, padding: int) -> bool:
    """Tell whether images [N, I, H, W] are best correlated with a weight [O, I, k, l] so: on a CPU, if both are large.

    GPUs have products enough, in bfloat16 at that; and so have the CPUs that are fast in bfloat16.
    """
    if not is_at_hand(x) or x.dtype != torch.float32 or not x.is_contiguous(memory_format=torch.channels_last):
        return False
    if weight.shape[2:] != (TAPS, TAPS) or padding not in range(TAPS):
        return False
    height, width = (-(-(side + 2 * padding - TAPS + 1) // OUT) for side in x.shape[2:])
    return min(weight.shape[:2]) >= _LEAST_CHANNELS and len(x) * height * width >= _LEAST_TILES


@torch.library.custom_op("bigtrain::winograd_convolution", mutates_args=())
def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, padding: int) -> Tensor:
    """Correlate images with a weight; no graph is recorded.

    Args:
        x: shape [N, I, H, W].
        weight: shape [O, I, 3, 3].
        bias: shape [O], or None.
        padding: zeros on each side.

    Returns:
        Shape [N, O, H + 2 * padding - 2, W + 2 * padding - 2], in channels_last.
    """
    outs, ins = weight.shape[:2]
    height, width = (side + 2 * padding - TAPS + 1 for side in x.shape[2:])
    result = x.new_empty(len(x), height, width, outs)
    taps = _both("G", x) @ weight.permute(2, 3, 1, 0).reshape(TAPS**2, ins * outs)
    for samples, rows in _blocks(len(x), height, width, channels=max(ins, outs)):
        tiles = _both("B^T", x) @ _tiles(x[samples], rows, IN, width, padding)
        products = torch.bmm(tiles.view(IN**2, -1, ins), taps.view(IN**2, ins, outs))
        sums = (_both("A^T", x) @ products.view(IN**2, -1)).view(-1, outs)
        if bias is not None:
            sums += bias
        block = result[samples, rows.start * OUT : rows.stop * OUT]
        count = len(block), rows.stop - rows.start, -(-width // OUT)
        whole = sums.view(OUT, OUT, *count, outs).permute(2, 3, 0, 4, 1, 5).reshape(count[0], count[1] * OUT, -1, outs)
        block.copy_(whole[:, : block.shape[1], :width])
    return result.permute(0, 3, 1, 2)


@torch.library.custom_op("bigtrain::winograd_weight_gradient", mutates_args=())
def weight_gradient(grad: Tensor, x: Tensor, padding: int) -> Tensor:
    """Return the gradient of `convolve` by its weight.

    Args:
        grad: the result's gradient, shape [N, O, H + 2 * padding - 2, W + 2 * padding - 2].
        x: shape [N, I, H, W].
        padding: zeros on each side.

    Returns:
        Shape [O, I, 3, 3], in channels_last.
    """
    ins, outs = x.shape[1], grad.shape[1]
    height, width = grad.shape[2:]
    total = x.new_zeros(IN**2, ins, outs)
    for samples, rows in _blocks(len(x), height, width, channels=max(ins, outs) / 2):  # each passes over all of the sum
        tiles = _both("B^T", x) @ _tiles(x[samples], rows, IN, width, padding)
        grads = _both("A^T", x).t() @ _tiles(grad[samples], rows, OUT, width, 0)
        total.baddbmm_(tiles.view(IN**2, -1, ins).transpose(1, 2), grads.view(IN**2, -1, outs))
    taps = _both("G", x).t() @ total.view(IN**2, ins * outs)
    gradient = taps.view(TAPS, TAPS, ins, outs).permute(3, 2, 0, 1)
    return gradient.contiguous(memory_format=torch.channels_last)


@register_flop_formula(torch.ops.bigtrain.winograd_convolution)
def _operations(x: Any, weight: Any, *_: Any, out_shape: Any, **__: Any) -> int:
    """Count the operations of the definition, which other ways of computing the same are compared by."""
    return int(2 * math.prod(weight) * out_shape[0] * out_shape[2] * out_shape[3])


@register_flop_formula(torch.ops.bigtrain.winograd_weight_gradient)
def _operations_of_gradient(grad: Any, *_: Any, out_shape: Any, **__: Any) -> int:
    return int(2 * math.prod(out_shape) * grad[0] * grad[2] * grad[3])


def _blocks(samples: int, height: int, width: int, *, channels: float) -> Iterator[Block]:
    """Cut the tiles of so many images into blocks that stay in the cache."""
    rows, columns = -(-height // OUT), -(-width // OUT)
    at_once = int(_AT_ONCE * torch.get_num_threads() / channels)
    images = max(at_once // (rows * columns), 1)
    strip = rows if at_once >= rows * columns else max(at_once // columns, 1)
    for first in range(0, samples, images):
        for row in range(0, rows, strip):
            yield slice(first, min(first + images, samples)), slice(row, min(row + strip, rows))


def _tiles(x: Tensor, rows: slice, size: int, width: int, padding: int) -> Tensor:
    """Return the samples under each of `size` by `size` positions of the tiles, every `OUT` samples: [size², T * C].

    Args:
        x: images [N, C, H, W].
        rows: of tiles.
        size: samples on a tile's side.
        width: of the result, which the tiles cover.
        padding: zeros on each side of an image; as many follow as the last tiles need.
    """
    batch, channels = x.shape[:2]
    columns = -(-width // OUT)
    top = rows.start * OUT - padding
    window = x.new_zeros(batch, (rows.stop - rows.start - 1) * OUT + size, (columns - 1) * OUT + size, channels)
    inside = x.permute(0, 2, 3, 1)[:, max(top, 0) : top + window.shape[1], : window.shape[2] - padding]
    window[:, max(-top, 0) :, padding:][:, : inside.shape[1], : inside.shape[2]] = inside
    tiles = window.unfold(1, size, OUT).unfold(2, size, OUT).permute(4, 5, 0, 1, 2, 3)
    return tiles.reshape(size**2, -1)


def _both(side: str, like: Tensor) -> Tensor:
    """Return the matrix that applies a side's matrix to both sides of tiles."""
    return _kronecker(side, like.dtype)


@constant
def _kronecker(side: str, dtype: torch.dtype) -> Tensor:
    matrix = torch.from_numpy(_sides()[side])
    return torch.kron(matrix, matrix).to(dtype)


def _sides() -> dict[str, NDArray[np.float64]]:
    """Return A^T, B^T and G, by Toom and Cook: multiply polynomials by their values at points, and interpolate.

    Filtering is the transpose of that product: B^T is the transpose of the interpolation, G and A evaluate.
    """
    result, image, weight = np.zeros((OUT, IN)), np.zeros((IN, IN)), np.zeros((IN, TAPS))
    for row, point in enumerate(POINTS):
        others = [other for other in POINTS if other != point]
        result[:, row] = point ** np.arange(OUT)
        image[row, :-1] = polyfromroots(others)
        weight[row] = point ** np.arange(TAPS) / np.prod(point - np.array(others))
    result[-1, -1] = weight[-1, -1] = 1.0
    image[-1] = polyfromroots(POINTS)
    return {"A^T": result, "B^T": image, "G": weight}
