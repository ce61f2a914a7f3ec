"""Videos of one length, size and rate."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from data_pipelines.fields.decoder import FieldDecoder
from data_pipelines.fields.image import scale_pixels, unscale_pixels
from data_pipelines.fields.kind import LARGEST_VALUE, FieldKind, Value, check_codec, check_value
from data_pipelines.fields.npy import MAGIC, NpyDecoder, encode_npy, read_npy
from data_pipelines.fields.spec import FieldSpec

if TYPE_CHECKING:
    from torch import Tensor

_CONTAINERS = "matroska,webm,mov,mp4,avi,gif"
"""FFmpeg's names of what a video may be: other readers of its open further files and URLs that the content names."""
_FORMATS = {1: "gray", 3: "rgb24"}
"""Channels -> FFmpeg's name of such pixels."""


class VideoError(ValueError):
    """A video cannot be read, or holds no frame."""


class VideoKind(FieldKind):
    """Videos, uint8 [T, C, H, W], grey or RGB: lossless as NumPy files or as FFV1 in Matroska, or H.264 in MP4."""

    name = "video"
    codecs: ClassVar[Mapping[str, str]] = {"npy": "npy", "ffv1": "mkv", "h264": "mp4"}
    usual_dtype: ClassVar[str] = "uint8"
    has_rate: ClassVar[bool] = True

    def check(self, spec: FieldSpec) -> None:
        """See FieldKind."""
        check_codec(self, spec)
        if spec.dtype != "uint8" or len(spec.shape) != 4 or spec.shape[1] not in _FORMATS:
            raise ValueError(f"{spec.dtype} of {spec.size_words}, expected uint8 of frames x 1 or 3 x height x width")
        if spec.codec == "h264" and (spec.shape[1] != 3 or spec.shape[2] % 2 or spec.shape[3] % 2):
            raise ValueError(f"codec h264 supports RGB of even height and width, not {spec.size_words}")

    def probe(self, content: bytes) -> FieldSpec:
        """See FieldKind."""
        value, rate = _read(content, 3)
        return FieldSpec(self.name, value.shape, value.dtype.name, rate=rate, codec="npy")

    def read(self, spec: FieldSpec, content: bytes) -> Value:
        """See FieldKind; a longer video is cut off, a shorter one is an error."""
        value, _ = _read(content, spec.shape[1], spec.shape[0])
        if len(value) < spec.shape[0]:
            raise ValueError(f"a video of {len(value)} frames, expected {spec.shape[0]} or more")
        value = value[: spec.shape[0]]
        check_value(spec, value)
        return value

    def encode(self, spec: FieldSpec, value: Value) -> bytes:
        """See FieldKind."""
        check_value(spec, value)
        return encode_npy(value) if spec.codec == "npy" else _encode(spec, value)

    def decoder(self, spec: FieldSpec) -> FieldDecoder:
        """See FieldKind."""
        form = NpyDecoder if spec.codec == "npy" else _VideoDecoder
        return form(spec.shape, spec.dtype)

    def normalise(self, spec: FieldSpec, batch: Tensor) -> Tensor:
        """Return videos in [-1, 1], float32, shape [N, T, C, H, W]."""
        return scale_pixels(spec, batch)

    def stored(self, spec: FieldSpec, batch: Tensor) -> Tensor:
        """See FieldKind."""
        return unscale_pixels(spec, batch)


class _VideoDecoder(FieldDecoder):
    def decode(self, data: memoryview, out: NDArray[Any]) -> None:
        """See FieldDecoder."""
        value, _ = _read(bytes(data), self.shape[1], self.shape[0] + 1)
        if value.shape != self.shape:
            raise ValueError(f"a video of {value.shape}, but {self.shape} is expected (T, C, H, W)")
        out[...] = value


def about_video(content: bytes) -> tuple[int, int, int, float | None]:
    """Return a video's number of frames, height, width, and rate, None where it has none.

    Raises:
        ValueError: it cannot be read.
    """
    with _opened(content) as (file, stream):
        count = stream.frames or sum(1 for packet in file.demux(stream) if packet.size)
        return count, stream.height, stream.width, _rate_of(stream)


def read_frames(content: bytes, channels: int, chosen: Sequence[int]) -> Iterator[Value]:
    """Yield some of a video's frames, [C, H, W]; those behind its end are left out.

    Args:
        content: of its file.
        channels: 1 for grey, 3 for RGB.
        chosen: numbers of the frames, ascending.

    Raises:
        ValueError: it cannot be read, or its frames are larger than any sample may be.
    """
    wanted = Counter(chosen)
    with _opened(content) as (file, stream):
        for number, frame in enumerate(islice(file.decode(stream), max(chosen, default=-1) + 1)):
            if number in wanted:
                _check_size(len(chosen) * channels * frame.width * frame.height)
                pixels = frame.to_ndarray(format=_FORMATS[channels])
                for _ in range(wanted[number]):
                    yield pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)


@contextmanager
def _opened(content: bytes) -> Iterator[tuple[Any, Any]]:
    """Open a video and its first stream of frames; whatever FFmpeg finds wrong within the block is a ValueError."""
    import av  # loads FFmpeg, which only sets of videos need

    try:
        with av.open(io.BytesIO(content), mode="r", options={"format_whitelist": _CONTAINERS}) as file:
            yield file, file.streams.video[0]
    except (av.FFmpegError, IndexError) as error:
        raise ValueError(f"unreadable video ({error})") from None


def _rate_of(stream: Any) -> float | None:
    return None if stream.average_rate is None else float(stream.average_rate)


def _check_size(size: int) -> None:
    if size > LARGEST_VALUE:
        raise ValueError(f"a video of more than {LARGEST_VALUE} bytes")


def _read(content: bytes, channels: int, most: int | None = None) -> tuple[Value, float | None]:
    """Return a video's frames [T, C, H, W], the first `most` of them, and its rate, None where it has none."""
    if content.startswith(MAGIC):
        return read_npy(content), None
    frames: list[Value] = []
    with _opened(content) as (file, stream):
        rate = _rate_of(stream)
        for frame in islice(file.decode(stream), most):
            _check_size((len(frames) + 1) * channels * frame.width * frame.height)
            frames.append(frame.to_ndarray(format=_FORMATS[channels]))
    if not frames:
        raise ValueError("a video without frames")
    video = np.stack(frames)
    return video[:, None] if channels == 1 else video.transpose(0, 3, 1, 2), rate


def frames_of(path: Path, channels: int) -> Iterator[Value]:
    """Decode a video of any length, frame by frame.

    Args:
        path: of the file.
        channels: 1 for grey, 3 for RGB.

    Yields:
        uint8, shape [channels, H, W].

    Raises:
        VideoError: it cannot be read, or holds no frame.
    """
    import av

    count = 0
    try:
        with path.open("rb") as content, av.open(content, mode="r", options={"format_whitelist": _CONTAINERS}) as file:
            for frame in file.decode(file.streams.video[0]):
                pixels: Value = frame.to_ndarray(format=_FORMATS[channels])
                yield pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)
                count += 1
    except av.FFmpegError as error:
        raise VideoError(f"unreadable video ({error.strerror})") from None
    except IndexError:
        raise VideoError("it contains no video") from None
    if not count:
        raise VideoError("a video without frames")


def rate_of(path: Path) -> Fraction:
    """Return the frames per second of a video, 25 where the file does not say it.

    Raises:
        VideoError: it cannot be read, or holds no frame.
    """
    import av

    next(frames_of(path, 3))
    with path.open("rb") as content, av.open(content, mode="r", options={"format_whitelist": _CONTAINERS}) as file:
        return file.streams.video[0].average_rate or Fraction(25)


def _encode(spec: FieldSpec, value: Value) -> bytes:
    import av

    stream, (_, channels, height, width) = io.BytesIO(), spec.shape
    form, codec, pixels = {
        "ffv1": ("matroska", "ffv1", "gray" if channels == 1 else "bgr0"),
        "h264": ("mp4", "libx264", "yuv420p"),
    }[spec.codec]
    with av.open(stream, mode="w", format=form) as file:
        track = file.add_stream(codec, rate=max(1, round(spec.rate or 25)))
        assert isinstance(track, av.VideoStream)
        track.width, track.height, track.pix_fmt = width, height, pixels
        for frame in value:
            pixel_rows = frame[0] if channels == 1 else np.ascontiguousarray(frame.transpose(1, 2, 0))
            file.mux(track.encode(av.VideoFrame.from_ndarray(pixel_rows, format=_FORMATS[channels])))
        file.mux(track.encode())
    return stream.getvalue()
