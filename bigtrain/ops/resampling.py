"""Resample images by an integer factor through a FIR filter, as matrix products along each axis.

Up-sampling, filtering and down-sampling a line of samples is one banded Toeplitz matrix. Applied to an image in
channels_last, along its rows and then its columns, it is two large matrix products: no stuffed zeros, no samples that
are made to be discarded, and the matrix units of a processor do the work. A long axis is cut into tiles that share
one small matrix. A filter that is not separable is a short sum of separable ones.
"""

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bigtrain.ops.filter_design import separable_terms
from bigtrain.ops.precision import outside_autocast
from bigtrain.ops.upfirdn import upfirdn2d_reference

_LONGEST = 192
"""Samples out that are computed by one matrix; a longer axis is cut into tiles of about half of this."""


class Line(NamedTuple):
    """How `out` samples follow from `size` samples: zero-stuff by `up`, pad, convolve, keep every `down`-th.

    Attributes:
        taps: length of the filter.
        before: zeros put before the stuffed samples; negative to cut some off.
    """

    taps: int
    up: int
    down: int
    before: int
    size: int
    out: int

    def adjoint(self) -> "Line":
        """Return the line whose matrix, with the filter turned round, is the transpose."""
        return Line(self.taps, self.down, self.up, self.taps - 1 - self.before, self.out, self.size)

    @property
    def tile(self) -> int:
        """Count the samples out of one tile."""
        if self.out <= _LONGEST:
            return self.out
        return _LONGEST // (2 * self.up) * self.up

    @property
    def tiles(self) -> int:
        """Count the tiles."""
        return -(-self.out // self.tile)

    @property
    def window(self) -> range:
        """Return the samples in that the first tile depends on; some may lie outside of the line."""
        if self.tiles == 1:
            return range(self.size)
        first = -(self.before // self.up)
        last = ((self.tile - 1) * self.down - self.before + self.taps - 1) // self.up
        return range(first, last + 1)

    def matrix(self, fir: Tensor) -> Tensor:
        """Return a tile's matrix for the filters [K, taps]: shape [K, tile, len(window)]."""
        sample_out = torch.arange(self.tile, device=fir.device)[:, None]
        sample_in = torch.arange(self.window.start, self.window.stop, device=fir.device)
        tap = self.taps - 1 - (sample_in * self.up + self.before - sample_out * self.down)
        inside = (tap >= 0) & (tap < self.taps)
        return fir[:, tap.clamp(0, self.taps - 1)] * inside


class Resampling(nn.Module):
    """A linear map from images [N, C, *size] to [N, C, *out] whose centres stay where they are.

    Args:
        fir: low-pass filter of unit sum, on the CPU; shape [T] for a separable one, or [T, T].
        up: zero-stuffing factor.
        down: decimation factor; not above 1 together with `up`.
        size: height and width in.
        out: height and width out.
        gain: factor on the result.
    """

    along_height: Tensor
    along_width: Tensor
    back_height: Tensor
    back_width: Tensor

    def __init__(
        self, fir: Tensor, *, size: tuple[int, int], out: tuple[int, int], up: int = 1, down: int = 1, gain: float = 1.0
    ) -> None:
        super().__init__()
        self._fir, self.gain = fir, gain
        terms = (fir[None], fir[None]) if fir.ndim == 1 else separable_terms(fir)
        self._columns, self._rows = (term * math.sqrt(gain) for term in terms)
        self.height, self.width = (
            Line(len(fir), up, down, _centred(len(fir), up, down, *ends), *ends) for ends in zip(size, out, strict=True)
        )
        for name, (line, filters) in self._lines().items():
            shape = len(filters), line.tile, len(line.window)
            self.register_buffer(name, torch.empty(shape), persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Compute the matrices."""
        for name, (line, filters) in self._lines().items():
            self.get_buffer(name).copy_(line.matrix(filters))

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, *size] to [N, C, *out]; differentiable to any order."""
        result: Tensor = _Resample.apply(x, self, False)
        return result

    def apply_plainly(self, x: Tensor) -> Tensor:
        """Compute the same as the definition reads: the reference twin."""
        fir = self._fir if self._fir.ndim == 2 else torch.outer(self._fir, self._fir)
        lines = (self.width, self.height)
        padding = [
            side
            for line in lines
            for side in (line.before, (line.out - 1) * line.down + line.taps - line.before - line.size * line.up)
        ]
        fir = fir.to(x.device)
        up, down = self.height.up, self.height.down
        return upfirdn2d_reference(x, fir, up=up, down=down, padding=tuple(padding), gain=self.gain)  # type: ignore[arg-type]

    def along(self, x: Tensor) -> Tensor:
        """Apply the map; no graph is recorded."""
        return _apply(x, self.height, self.along_height, self.width, self.along_width)

    def back(self, x: Tensor) -> Tensor:
        """Apply the transposed map; no graph is recorded."""
        return _apply(x, self.height.adjoint(), self.back_height, self.width.adjoint(), self.back_width)

    def _lines(self) -> dict[str, tuple[Line, Tensor]]:
        columns, rows = self._columns, self._rows
        return {
            "along_height": (self.height, columns),
            "along_width": (self.width, rows),
            "back_height": (self.height.adjoint(), columns.flip(1)),
            "back_width": (self.width.adjoint(), rows.flip(1)),
        }


class _Resample(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, resampling: Resampling, transposed: bool) -> Tensor:
        ctx.resampling, ctx.transposed = resampling, transposed
        return resampling.back(x) if transposed else resampling.along(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return _Resample.apply(grad, ctx.resampling, not ctx.transposed), None, None


def _centred(taps: int, up: int, down: int, size: int, out: int) -> int:
    """Return the padding before that puts the centre of the `out` samples on the centre of the `size` samples."""
    doubled = (out - 1) * down - (size - 1) * up + taps - 1
    if doubled % 2:
        raise ValueError(f"{taps} taps cannot resample {size} to {out} samples about one centre (up={up}, down={down})")
    return doubled // 2


def _apply(x: Tensor, height: Line, height_matrix: Tensor, width: Line, width_matrix: Tensor) -> Tensor:
    with outside_autocast(x.device.type):  # in the precision of the input
        rows = x.permute(0, 2, 3, 1).contiguous()
        total: Tensor | None = None
        for along_height, along_width in zip(height_matrix.to(x.dtype), width_matrix.to(x.dtype), strict=True):
            if width.out * height.size < height.out * width.size:  # the smaller image comes between the two
                term = _along_height(_along_width(rows, width, along_width), height, along_height)
            else:
                term = _along_width(_along_height(rows, height, along_height), width, along_width)
            total = term if total is None else total.add_(term)
        assert total is not None
        return total.permute(0, 3, 1, 2)


def _along_height(x: Tensor, line: Line, matrix: Tensor) -> Tensor:
    batch, _, width, channels = x.shape
    columns = x.reshape(batch, line.size, width * channels)
    return _along_axis_1(columns, line, matrix).reshape(batch, line.out, width, channels)


def _along_width(x: Tensor, line: Line, matrix: Tensor) -> Tensor:
    batch, height, _, channels = x.shape
    return _along_axis_1(x.flatten(0, 1), line, matrix).reshape(batch, height, line.out, channels)


def _along_axis_1(x: Tensor, line: Line, matrix: Tensor) -> Tensor:
    """Map [B, size, C] to [B, out, C]."""
    if line.tiles == 1:
        return torch.bmm(matrix.expand(x.shape[0], -1, -1), x)
    step = line.tile * line.down // line.up
    last = (line.tiles - 1) * step + line.window.stop
    padded = F.pad(x, (0, 0, -line.window.start, last - line.size))
    # Overlapping windows [B, tiles, C, window] of the line; the transposed view is what the matrix multiplies.
    windows = padded.unfold(1, len(line.window), step).transpose(2, 3).flatten(0, 1)
    tiles = torch.bmm(matrix.expand(windows.shape[0], -1, -1), windows)
    return tiles.reshape(x.shape[0], line.tiles * line.tile, -1)[:, : line.out]
