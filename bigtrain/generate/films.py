"""Moving pictures: GIF through Pillow, MP4 through FFmpeg's libraries (PyAV)."""

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

from bigtrain.core.errors import UserError
from data_pipelines.codec import Pixels

SUFFIXES = (".gif", ".mp4")


class FilmError(UserError):
    """A film cannot be written."""


def write_film(path: Path, frames: Iterator[Pixels], *, fps: int | Fraction) -> int:
    """Write a film; the file appears whole or not at all.

    Args:
        path: ends in `.gif` or `.mp4`.
        frames: uint8, each [H, W] or [H, W, 3], all of one size.
        fps: frames a second; a GIF rounds their duration to 1/100 s.

    Returns:
        The number of frames.

    Raises:
        FilmError: another ending.
    """
    write = _WRITERS.get(path.suffix.lower())
    if write is None:
        raise FilmError(f"{path}: the file name of a film ends in {' or '.join(SUFFIXES)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.partial{path.suffix}")
    try:
        count = write(partial, frames, fps)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return count


def _write_gif(path: Path, frames: Iterator[Pixels], fps: int | Fraction) -> int:
    # One palette for all frames: with one each, flat areas would flicker.
    pictures = [Image.fromarray(frame) for frame in frames]
    if pictures[0].mode == "RGB":
        sheet = np.concatenate([np.asarray(picture)[::2, ::2] for picture in pictures[:: max(1, len(pictures) // 32)]])
        palette = Image.fromarray(sheet).quantize(256)
        pictures = [picture.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG) for picture in pictures]
    duration = max(20, round(100 / fps) * 10)  # browsers show a frame of under 20 ms for 100
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=duration, loop=0)
    return len(pictures)


def _write_mp4(path: Path, frames: Iterator[Pixels], fps: int | Fraction) -> int:
    count = 0
    with av.open(str(path), "w", options={"movflags": "faststart"}) as film:
        stream = film.add_stream("libx264", rate=Fraction(fps), options={"crf": "16", "preset": "medium"})
        stream.pix_fmt = "yuv420p"  # what every player and browser can show
        for frame in frames:
            colour = np.repeat(frame[:, :, None], 3, axis=2) if frame.ndim == 2 else frame
            height, width = colour.shape[0] % 2, colour.shape[1] % 2
            colour = np.pad(colour, ((0, height), (0, width), (0, 0)), mode="edge")  # it halves the colours' size
            if count == 0:
                stream.height, stream.width = colour.shape[:2]
            film.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(colour), format="rgb24")))
            count += 1
        film.mux(stream.encode())
    return count


_WRITERS: dict[str, Callable[[Path, Iterator[Pixels], int | Fraction], int]] = {".gif": _write_gif, ".mp4": _write_mp4}
