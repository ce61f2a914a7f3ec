"""Decode images straight into the memory of a batch that is there already.

What most images are takes a short way: a JPEG is decoded into the batch by libjpeg-turbo, a plain 8-bit PNG skips
Pillow's file handling, which costs three times its decoder at 32x32, our own tiny ones skip all of Pillow, many at
once, and an array is copied from its file. Everything else goes through Pillow, which `decode_with_pillow` does for any
image: the reference that the short ways are tested against.
"""

import io
import struct
import threading
from collections.abc import Sequence

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from data_pipelines.codec import Pixels
from data_pipelines.fields.decoder import FieldDecoder
from data_pipelines.pictures import ImageFileError, open_picture
from data_pipelines.tiny_png import LARGEST, TinyPNGs

_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
_JPEG_SPACES = {1: ("GRAY", "Gray"), 3: ("RGB", "YCbCr")}
"""By channels: what simplejpeg is asked for, and what the file must be."""

_PNG_COLOURS = {1: 0, 2: 4, 3: 2, 4: 6}
_PNG_HEADER = struct.Struct(">I4sIIBBBBB")
_PNG_CHUNK = struct.Struct(">I4s")
_PNG_FIRST_CHUNK = 33  # behind the signature and IHDR


class Decoder(FieldDecoder):
    """Decodes images of one shape and of 8 bits; several threads may share it.

    Args:
        shape: channels, height and width that every image must have.
        arrays: whether the images are raw NumPy arrays: a batch of them lies in memory channel by channel as they do,
            any other batch pixel by pixel (`channels_last`), as decoders write.
    """

    def __init__(self, shape: tuple[int, int, int], *, arrays: bool = False) -> None:
        super().__init__(shape, "uint8")
        self.shape: tuple[int, int, int] = shape
        self._arrays = arrays
        channels, height, width = shape
        self._jpeg_space, self._jpeg_stored = _JPEG_SPACES.get(channels, ("", ""))
        self._png_header = _PNG_HEADER.pack(13, b"IHDR", width, height, 8, _PNG_COLOURS[channels], 0, 0, 0)
        self._array_header = _array_header(shape)
        self._scratch = threading.local()
        self._tiny = TinyPNGs(shape) if height * width <= LARGEST and not arrays else None
        self.together = 64 if self._tiny else 1

    def batch(self, count: int, buffer: memoryview | None = None) -> Pixels:
        """Return memory for images, uint8, shape [count, C, H, W]: `buffer`, or new memory."""
        channels, height, width = self.shape
        flat = self._flat(count, buffer)
        if self._arrays:
            return flat.reshape(count, channels, height, width)
        return flat.reshape(count, height, width, channels).transpose(0, 3, 1, 2)

    def decode_many(self, files: Sequence[memoryview | None], out: Pixels) -> dict[int, ValueError]:
        """Decode images' files, leaving out those that are None, into `out`, shape [N, C, H, W].

        Returns:
            The errors of `decode` by the files' places.
        """
        errors = {}
        for place in self._tiny.decode(files, out) if self._tiny else range(len(files)):
            file = files[place]
            try:
                if file is not None:
                    self.decode(file, out[place])
            except ValueError as error:
                errors[place] = error
        return errors

    def decode(self, data: memoryview, out: Pixels) -> None:
        """Decode an image's file, whose format its first bytes tell, into `out`, one image of a `batch`.

        Raises:
            ValueError: not an image, or one of another size or mode.
        """
        start = bytes(data[:8])
        if start.startswith(b"\xff\xd8\xff"):
            done = self._decode_jpeg(data, out)
        elif start == b"\x89PNG\r\n\x1a\n":
            done = self._decode_png(data, out)
        else:
            done = start.startswith(b"\x93NUMPY") and self._decode_array(data, out)
        if not done:
            decode_with_pillow(data, out)

    def _decode_jpeg(self, data: memoryview, out: Pixels) -> bool:
        """Decode a JPEG; False if it is not what it should be, or Pillow must judge."""
        try:
            height, width, space, _ = simplejpeg.decode_jpeg_header(data)
            if (height, width, space) != (*self.shape[1:], self._jpeg_stored):
                return False
            pixels = out.transpose(1, 2, 0)
            if pixels.flags.c_contiguous:
                simplejpeg.decode_jpeg(data, self._jpeg_space, buffer=pixels)
            else:
                pixels[...] = simplejpeg.decode_jpeg(data, self._jpeg_space)
        except ValueError:  # damaged; or sound, but of a kind that libjpeg-turbo's simple interface does not know
            return False
        return True

    def _decode_png(self, data: memoryview, out: Pixels) -> bool:
        """Decode a PNG; False if it is not what it should be."""
        compressed = _plain_png(data) if bytes(data[8:29]) == self._png_header else None
        if compressed is None:
            return False
        mode = _MODES[self.shape[0]]
        if not hasattr(self._scratch, "image"):
            self._scratch.image = Image.new(mode, (self.shape[2], self.shape[1]))
        image = self._scratch.image
        image.frombytes(compressed, "zip", (mode, 0))
        out.transpose(1, 2, 0)[...] = np.frombuffer(image.tobytes(), np.uint8).reshape(*self.shape[1:], -1)
        return True

    def _decode_array(self, data: memoryview, out: Pixels) -> bool:
        """Copy an array; an error if it is not what it should be, for Pillow knows none."""
        start = len(self._array_header)
        if bytes(data[:start]) != self._array_header or len(data) != start + out.size:
            raise ValueError(f"{len(data)} bytes with the header {bytes(data[10:start])!r} are not uint8 {self.shape}")
        out[...] = np.frombuffer(data, np.uint8, offset=start).reshape(self.shape)
        return True


def decode_with_pillow(data: memoryview, out: Pixels) -> None:
    """Decode any image that Pillow can read into `out`, shape [C, H, W].

    Raises:
        ValueError: not an image, or one of another size or mode.
    """
    shape = out.shape
    try:
        with open_picture(data) as picture:
            found = f"{picture.width}x{picture.height} {picture.mode}"
            fits = (picture.mode, picture.height, picture.width) == (_MODES[shape[0]], *shape[1:])
            pixels: NDArray[np.uint8] | None = np.asarray(picture) if fits else None
    except ImageFileError as error:
        raise ValueError(f"unreadable image ({error})") from None
    if pixels is None:
        raise ValueError(f"an image of {found}, but {_words(shape)} is expected")
    out[...] = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def _plain_png(data: memoryview) -> bytes | memoryview | None:
    """Return a PNG's compressed pixels; None if it breaks off, or has a transparent colour besides."""
    at, parts = _PNG_FIRST_CHUNK, []
    try:
        while True:
            size, kind = _PNG_CHUNK.unpack_from(data, at)
            if kind == b"IDAT":
                parts.append(data[at + 8 : at + 8 + size])
            elif kind == b"IEND":
                return parts[0] if len(parts) == 1 else b"".join(parts)
            elif kind == b"tRNS":
                return None
            at += 12 + size
    except struct.error:
        return None


def _array_header(shape: tuple[int, ...]) -> bytes:
    """Return the first bytes of a `.npy` file of a uint8 array of this shape."""
    stream = io.BytesIO()
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue()


def _words(shape: tuple[int, ...]) -> str:
    return f"{shape[2]}x{shape[1]} {_MODES[shape[0]]}"
