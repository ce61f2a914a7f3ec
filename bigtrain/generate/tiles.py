"""Large images in tiles, so that memory does not grow with them."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor


@dataclass(frozen=True)
class Tiling:
    """How an image is cut.

    Attributes:
        side: height and width of the part of a tile that is kept, in pixels of the input.
        overlap: pixels of its surroundings that a tile is computed with. Where a pixel of the output depends on no
            input that is farther away, the result is that of the whole image.
    """

    side: int
    overlap: int

    def check(self, multiple: int) -> None:
        """Find out whether the tiles fit a network.

        Args:
            multiple: what the sides of its inputs must be multiples of.

        Raises:
            ValueError: they do not, with what would.
        """
        for name, size in (("tile", self.side), ("overlap", self.overlap)):
            if size % multiple:
                raise ValueError(f"--{name} {size}: this network needs multiples of {multiple}")


def in_tiles(translate: Callable[[Tensor], Tensor], images: Tensor, tiling: Tiling) -> Tensor:
    """Translate images tile by tile.

    Args:
        translate: turns images [N, C, h, w] into images [N, C', s * h, s * w], with the same s for every size.
        images: shape [N, C, H, W].
        tiling: how they are cut.

    Returns:
        What `translate` makes, put together, shape [N, C', s * H, s * W].
    """
    height, width = images.shape[2:]
    whole: Tensor | None = None
    for top, left in product(range(0, height, tiling.side), range(0, width, tiling.side)):
        rows, columns = _span(top, height, tiling), _span(left, width, tiling)
        made = translate(images[:, :, rows.start : rows.stop, columns.start : columns.stop])
        tall, wide = made.shape[2] / len(rows), made.shape[3] / len(columns)
        if whole is None:
            size = (round(height * tall), round(width * wide))
            whole = torch.empty(*made.shape[:2], *size, dtype=made.dtype, device=made.device)
        bottom, right = min(top + tiling.side, height), min(left + tiling.side, width)
        kept = made[
            :,
            :,
            round((top - rows.start) * tall) : round((bottom - rows.start) * tall),
            round((left - columns.start) * wide) : round((right - columns.start) * wide),
        ]
        whole[:, :, round(top * tall) : round(bottom * tall), round(left * wide) : round(right * wide)] = kept
    assert whole is not None
    return whole


def _span(start: int, size: int, tiling: Tiling) -> range:
    """Return the pixels that a tile is computed from, along one side."""
    return range(max(0, start - tiling.overlap), min(size, start + tiling.side + tiling.overlap))
