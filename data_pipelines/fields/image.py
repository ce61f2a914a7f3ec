"""Images of 8 or 16 bits and any number of channels."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data_pipelines.codec import check_channels, encode
from data_pipelines.decode import Decoder
from data_pipelines.fields.decoder import FieldDecoder
from data_pipelines.fields.kind import FieldKind, Value, check_codec, check_value
from data_pipelines.fields.npy import MAGIC, NpyDecoder, encode_npy, read_npy
from data_pipelines.fields.spec import FieldSpec
from data_pipelines.pictures import ImageFileError, open_picture

if TYPE_CHECKING:
    from torch import Tensor

_GREY_16 = ("I;16", "I;16B", "I;16L", "I")
"""Pillow's modes of grey in 16 bits."""


class ImageKind(FieldKind):
    """Images, uint8 or uint16, [C, H, W].

    PNG, JPEG and WebP hold 1 to 4 channels of 8 bits (PNG also grey of 16), NumPy files all of them.
    """

    name = "image"
    codecs: ClassVar[Mapping[str, str]] = {"png": "png", "jpeg": "jpg", "webp": "webp", "npy": "npy", "source": ""}
    usual_dtype: ClassVar[str] = "uint8"
    """`source`: files as they were, each of any of the formats, with the extension that it had."""

    def check(self, spec: FieldSpec) -> None:
        """See FieldKind."""
        check_codec(self, spec)
        if spec.dtype not in ("uint8", "uint16") or len(spec.shape) != 3:
            raise ValueError(f"{spec.dtype} of {spec.size_words}, expected uint8 or uint16 of 3 axes (C, H, W)")
        if spec.codec == "npy":
            return
        if spec.dtype == "uint16" and (spec.codec, spec.shape[0]) != ("png", 1):
            raise ValueError(
                f"codec {spec.codec} does not support {spec.shape[0]} channels of 16 bits: png supports 1, npy any "
                f"number"
            )
        check_channels(spec.codec, spec.shape[0])

    def probe(self, content: bytes) -> FieldSpec:
        """See FieldKind."""
        value = _read(content)
        codec = "npy" if len(value) > 4 or (value.dtype == np.uint16 and len(value) != 1) else "png"
        return FieldSpec(self.name, value.shape, value.dtype.name, codec=codec)

    def read(self, spec: FieldSpec, content: bytes) -> Value:
        """See FieldKind; nothing is resized, how people's images become those of a set, a `ImageProtocol` says."""
        value = _read(content)
        check_value(spec, value)
        return value

    def encode(self, spec: FieldSpec, value: Value) -> bytes:
        """See FieldKind; JPEG and WebP of quality 95."""
        check_value(spec, value)
        if spec.codec == "npy":
            return encode_npy(value)
        return encode(value, spec.codec) if spec.dtype == "uint8" else _encode_png_16(value)

    def decoder(self, spec: FieldSpec) -> FieldDecoder:
        """See FieldKind."""
        channels, height, width = spec.shape
        if spec.dtype == "uint8" and channels <= 4:
            return Decoder((channels, height, width), arrays=spec.codec == "npy")
        return NpyDecoder(spec.shape, spec.dtype) if spec.codec == "npy" else _Png16Decoder(spec.shape, spec.dtype)

    def normalise(self, spec: FieldSpec, batch: Tensor) -> Tensor:
        """Return images in [-1, 1], float32, shape [N, C, H, W]."""
        return scale_pixels(spec, batch)

    def stored(self, spec: FieldSpec, batch: Tensor) -> Tensor:
        """See FieldKind."""
        return unscale_pixels(spec, batch)


def scale_pixels(spec: FieldSpec, batch: Tensor) -> Tensor:
    """Map 0 to -1 and the largest value of the type, 255 or 65,535, to 1, in float32."""
    return batch.float() / (127.5 if spec.dtype == "uint8" else 32767.5) - 1.0


def unscale_pixels(spec: FieldSpec, batch: Tensor) -> Tensor:
    """Map -1 to 0 and 1 to the largest value of the type, rounded and clamped."""
    import torch  # whoever has tensors has it loaded

    half = 127.5 if spec.dtype == "uint8" else 32767.5
    levels = ((batch.float() + 1.0) * half).round().clamp(0, 2 * half)
    return levels.to(torch.uint8) if spec.dtype == "uint8" else levels.to(torch.int32).to(torch.uint16)


def _read(content: bytes) -> Value:
    """Return the array, [C, H, W], of an image's file in its own depth."""
    if content.startswith(MAGIC):
        return read_npy(content)
    try:
        with open_picture(content) as picture:
            if picture.mode in _GREY_16:
                pixels: Value = np.asarray(picture).astype(np.uint16)
            elif picture.mode in ("L", "LA", "RGB", "RGBA"):
                pixels = np.asarray(picture)
            else:
                pixels = np.asarray(picture.convert("RGBA" if picture.has_transparency_data else "RGB"))
    except ImageFileError as error:
        raise ValueError(f"unreadable image ({error})") from None
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def _encode_png_16(value: Value) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(value[0]).save(stream, "PNG")
    return stream.getvalue()


class _Png16Decoder(FieldDecoder):
    """Decodes grey PNGs of 16 bits."""

    def decode(self, data: memoryview, out: NDArray[Any]) -> None:
        """See FieldDecoder."""
        value = _read(bytes(data))
        if value.shape != self.shape or value.dtype != self.dtype:
            raise ValueError(f"an image of {value.dtype} {value.shape}, but {self.dtype} {self.shape} is expected")
        out[...] = value
