"""PNGs of tiny images that NumPy can decode: all rows use one filter, none or "up".

An encoder chooses a filter for each row, to make the file smaller; undoing "average" and "Paeth" goes pixel by pixel,
and calling Pillow to do so costs more than inflating a 32x32 image. With one of these two filters for the whole image
(PNG specification, section 9.2) a running sum over the rows is all there is to do. Any reader of PNGs reads the files.
"""

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

LARGEST = 64 * 64
"""Pixels of the largest image that is written so; for larger ones Pillow's overhead does not matter."""

_LEVEL_9 = 0xDA
"""Second byte of a zlib stream of the highest level, as we write it: a hint that spares others a vain try."""

_NONE, _UP = 0, 2
_COLOURS = {1: 0, 2: 4, 3: 2, 4: 6}


def encode_tiny(image: NDArray[np.uint8]) -> bytes:
    """Write an image, uint8 [C, H, W], with the filter that makes the smaller file."""
    channels, height, width = image.shape
    rows = image.transpose(1, 2, 0).reshape(height, width * channels)
    up = np.diff(rows, axis=0, prepend=np.zeros_like(rows[:1]))
    content = min(_deflate(rows, _NONE), _deflate(up, _UP), key=len)
    header = struct.pack(">IIBBBBB", width, height, 8, _COLOURS[channels], 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", content) + _chunk(b"IEND", b"")


def decode_tiny(compressed: bytes | memoryview, shape: tuple[int, int, int]) -> NDArray[np.uint8] | None:
    """Return the pixels [H, W, C] of a PNG's compressed rows; None where they are not of the kind written here."""
    channels, height, width = shape
    size = height * (1 + width * channels)
    if height * width > LARGEST or len(compressed) < 2 or compressed[1] != _LEVEL_9:
        return None
    try:
        content = zlib.decompressobj().decompress(compressed, size + 1)
    except zlib.error:
        return None
    if len(content) != size:
        return None
    rows = np.frombuffer(content, np.uint8).reshape(height, -1)
    filters = rows[:, 0].tobytes()
    if filters == bytes([_NONE]) * height:
        pixels: NDArray[np.uint8] = rows[:, 1:]
    elif filters == bytes([_UP]) * height:
        pixels = np.add.accumulate(rows[:, 1:], axis=0, dtype=np.uint8)
    else:
        return None
    return pixels.reshape(height, width, channels)


def _deflate(rows: NDArray[np.uint8], kind: int) -> bytes:
    return zlib.compress(np.insert(rows, 0, kind, axis=1).tobytes(), 9)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
