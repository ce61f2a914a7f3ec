"""PNGs of tiny images that NumPy can decode: all rows use one filter, none or "up".

An encoder chooses a filter for each row, to make the file smaller; undoing "average" and "Paeth" goes pixel by pixel,
and calling Pillow to do so costs more than inflating a 32x32 image. With one of these two filters for the whole image
(PNG specification, section 9.2) a running sum over the rows is all there is to do, for all images of a batch at once.
Any reader of PNGs reads the files.
"""

import struct
import zlib
from collections.abc import Sequence
from typing import cast

import numpy as np
from isal import igzip_lib, isal_zlib
from numpy.typing import NDArray

LARGEST = 64 * 64
"""Pixels of the largest image that is written so; for larger ones Pillow's overhead does not matter."""

_LEVEL_9 = 0xDA
"""Second byte of a zlib stream of the highest level, as we write it: a hint that spares others a vain try."""

_InflateError = cast("type[Exception]", igzip_lib.IsalError)  # its stub has an instance there

_NONE, _UP = 0, 2
_COLOURS = {1: 0, 2: 4, 3: 2, 4: 6}
_BEGIN = b"\x89PNG\r\n\x1a\n"
_END = b"\0\0\0\0IEND\xae\x42\x60\x82"
_AFTER_ROWS = 4 + len(_END)  # their checksum comes between


def encode_tiny(image: NDArray[np.uint8]) -> bytes:
    """Write an image, uint8 [C, H, W], with the filter that makes the smaller file."""
    channels, height, width = image.shape
    rows = image.transpose(1, 2, 0).reshape(height, width * channels)
    up = np.diff(rows, axis=0, prepend=np.zeros_like(rows[:1]))
    content = min(_deflate(rows, _NONE), _deflate(up, _UP), key=len)
    return _BEGIN + _chunk(b"IHDR", _header((channels, height, width))) + _chunk(b"IDAT", content) + _END


class TinyPNGs:
    """Decodes PNGs of one tiny shape, many at once: what must be done image by image is inflating them.

    Args:
        shape: channels, height and width of the images.
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        channels, height, width = shape
        self._shape = shape
        self._content = height * (1 + width * channels)
        self._longest = 2 * self._content + len(_BEGIN) + len(_END)  # what is longer may inflate to anything
        self._begin = _BEGIN + _chunk(b"IHDR", _header(shape))
        self._rows = len(self._begin) + 8  # where the compressed rows begin

    def decode(self, files: Sequence[memoryview | None], out: NDArray[np.uint8]) -> list[int]:
        """Decode files into `out`, uint8, shape [N, C, H, W]; return the places of those that are not of our kind."""
        channels, height, width = self._shape
        contents: list[bytes] = []
        done: list[int] = []
        for place, file in enumerate(files):
            content = None if file is None else self._inflate(file)
            if content is not None:
                contents.append(content)
                done.append(place)
        rows = np.frombuffer(b"".join(contents), np.uint8).reshape(len(done), height, 1 + width * channels)
        filters, pixels = rows[:, :, 0], rows[:, :, 1:].copy()
        up = (filters == _UP).all(axis=1)
        ours = up | (filters == _NONE).all(axis=1)
        pixels[up] = np.add.accumulate(pixels[up], axis=1, dtype=np.uint8)
        images = pixels.reshape(-1, height, width, channels).transpose(0, 3, 1, 2)
        places = np.array(done, dtype=np.intp)
        out[places[ours]] = images[ours]
        return sorted({*range(len(files))} - set(places[ours].tolist()))

    def _inflate(self, file: memoryview) -> bytes | None:
        """Return a PNG's filtered rows; None if the file is not as `encode_tiny` lays it out."""
        start, stop = self._rows, len(file) - _AFTER_ROWS
        if len(file) > self._longest or file[: start - 8] != self._begin or file[stop + 4 :] != _END:
            return None
        if file[start - 8 : start] != struct.pack(">I4s", stop - start, b"IDAT") or file[start + 1] != _LEVEL_9:
            return None
        try:
            content: bytes = isal_zlib.decompress(file[start:stop], bufsize=self._content)
        except (_InflateError, EOFError):
            return None
        return content if len(content) == self._content else None


def _header(shape: tuple[int, int, int]) -> bytes:
    channels, height, width = shape
    return struct.pack(">IIBBBBB", width, height, 8, _COLOURS[channels], 0, 0, 0)


def _deflate(rows: NDArray[np.uint8], kind: int) -> bytes:
    return zlib.compress(np.insert(rows, 0, kind, axis=1).tobytes(), 9)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
