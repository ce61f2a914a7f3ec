"""Pictures for people: grids of images and curves of metrics."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from bigtrain.core.alpha import opaque
from data_pipelines.codec import Pixels

Points = Sequence[tuple[float, float]]
_FONT, _BLACK, _WHITE = 14, (0, 0, 0), (255, 255, 255)


def image_grid(images: Tensor, columns: int, *, width: int = 640, gap: int = 1) -> Pixels:
    """Lay images out in rows, enlarged by a whole factor so that the grid is about `width` pixels wide.

    Args:
        images: uint8, shape [N, 1 to 4, H, W]; those with transparency are laid over white.
        columns: images a row.
        width: of the grid in pixels, at least; small images are enlarged without smoothing.
        gap: white pixels between images, before enlarging.

    Returns:
        uint8, shape [height, width] for grey images, [height, width, 3] for colour.
    """
    images = opaque(images)
    count, channels, height, side = images.shape
    rows = -(-count // columns)
    sheet = np.full((channels, rows * (height + gap) + gap, columns * (side + gap) + gap), 255, dtype=np.uint8)
    for number, image in enumerate(images.cpu().numpy()):
        row, column = divmod(number, columns)
        top, left = gap + row * (height + gap), gap + column * (side + gap)
        sheet[:, top : top + height, left : left + side] = image
    scale = max(1, round(width / sheet.shape[2]))
    sheet = sheet.repeat(scale, axis=1).repeat(scale, axis=2)
    return sheet[0] if channels == 1 else np.ascontiguousarray(sheet.transpose(1, 2, 0))


def image_columns(columns: Mapping[str, Tensor]) -> Pixels:
    """Lay images out in captioned columns, a row a sample; two samples a row where they are small and even in number.

    Args:
        columns: by caption, uint8, each [N, 1 to 4, H, W]; smaller ones are enlarged without smoothing.

    Returns:
        uint8, shape [height, width, 3].
    """
    laid = {caption: opaque(images) for caption, images in columns.items()}
    channels, height, width = (
        max(sizes) for sizes in zip(*(images.shape[1:] for images in laid.values()), strict=True)
    )
    grid = torch.stack([_enlarged(images, channels, height, width) for images in laid.values()], dim=1)
    together = 2 if len(grid) % 2 == 0 and width <= 128 else 1
    return captioned(image_grid(grid.flatten(0, 1), together * len(laid)), columns=[*laid] * together)


def _enlarged(images: Tensor, channels: int, height: int, width: int) -> Tensor:
    grown = images.repeat_interleave(height // images.shape[2], 2).repeat_interleave(width // images.shape[3], 3)
    return grown.expand(-1, channels, -1, -1)


def captioned(grid: Pixels, *, columns: Sequence[str] = (), rows: Sequence[str] = ()) -> Pixels:
    """Write words over the columns and beside the rows of a grid.

    Args:
        grid: uint8, shape [height, width] or [height, width, 3].
        columns: captions, evenly over the width.
        rows: captions, evenly over the height.

    Returns:
        uint8, shape [height + top margin, width + left margin, 3].
    """
    font = ImageFont.load_default(_FONT)
    left = max((round(font.getlength(text)) + 12 for text in rows), default=0)
    top = _FONT + 10 if columns else 0
    height, width = grid.shape[:2]
    sheet = Image.new("RGB", (left + width, top + height), _WHITE)
    sheet.paste(Image.fromarray(grid).convert("RGB"), (left, top))
    pen = ImageDraw.Draw(sheet)
    for number, text in enumerate(columns):
        pen.text((left + (number + 0.5) * width / len(columns), top / 2), text, _BLACK, font, anchor="mm")
    for number, text in enumerate(rows):
        pen.text((left - 6, top + (number + 0.5) * height / len(rows)), text, _BLACK, font, anchor="rm")
    return np.asarray(sheet)


def at_most(grid: Pixels, width: int) -> Pixels:
    """Shrink a picture that is wider than `width` pixels, for pages that show it."""
    if grid.shape[1] <= width:
        return grid
    height = round(grid.shape[0] * width / grid.shape[1])
    return np.asarray(Image.fromarray(grid).resize((width, height), Image.Resampling.LANCZOS))


def plot_curves(curves: Mapping[str, Points], path: Path) -> None:
    """Draw a run's scores, losses, logits and speed over kimg into a PNG.

    Args:
        curves: points (kimg, value) by metric name; panels without any are left out.
        path: of the PNG.
    """
    from matplotlib.figure import Figure

    panels = [
        (title, [name for name in sorted(curves) if name.startswith(prefixes)])
        for title, prefixes in (
            ("Fréchet distance of the averaged generator", ("eval/",)),
            ("losses", ("loss/",)),
            ("logits", ("logits/",)),
            ("images per second", ("time/img_per_s",)),
        )
    ]
    panels = [(title, names) for title, names in panels if names]
    figure = Figure(figsize=(4.2 * max(len(panels), 1), 3.4))
    axes = figure.subplots(1, max(len(panels), 1), squeeze=False)
    for axis, (title, names) in zip(axes[0], panels, strict=False):
        for name in names:
            kimg, values = zip(*curves[name], strict=True)
            axis.plot(kimg, values, marker="o" if name.startswith("eval/") else None, label=name.split("/", 1)[1])
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("kimg")
        axis.set_ylim(bottom=None if title == "logits" else 0)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
