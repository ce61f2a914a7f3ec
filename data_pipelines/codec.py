"""How one image lies in a tar."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data_pipelines.tiny_png import LARGEST, encode_tiny

CODECS = ("source", "png", "jpeg", "webp", "npy")
"""The bytes of the source's file as they were; PNG; JPEG; WebP; raw NumPy (fastest to read)."""

SUFFIXES = {"png": "png", "jpeg": "jpg", "webp": "webp", "npy": "npy"}
"""Codec -> file extension; with `source` it is the one that the file had."""

Pixels = NDArray[np.uint8]
"""An image, uint8, shape [C, H, W]: grey, grey and alpha, RGB or RGBA."""


def encode(image: Pixels, codec: str, *, quality: int = 95) -> bytes:
    """Turn an image into the bytes of a file.

    Args:
        image: 1 to 4 channels; JPEG knows 1 and 3, WebP 3 (it drops alpha that is opaque).
        codec: one of `SUFFIXES`.
        quality: of JPEG and WebP, 1 to 100; WebP is lossless at 100.

    Raises:
        ValueError: the codec cannot hold this image.
    """
    if codec not in SUFFIXES:
        raise ValueError(f"unknown codec {codec!r}: choose one of {', '.join(SUFFIXES)}")
    check_channels(codec, image.shape[0])
    if codec == "png" and image.shape[1] * image.shape[2] <= LARGEST:
        return encode_tiny(image)
    stream = io.BytesIO()
    if codec == "npy":
        np.save(stream, image)
        return stream.getvalue()
    picture = Image.fromarray(image[0] if len(image) == 1 else np.ascontiguousarray(image.transpose(1, 2, 0)))
    if codec == "png":
        picture.save(stream, "PNG")
    elif codec == "jpeg":
        picture.save(stream, "JPEG", quality=quality, subsampling=0)  # 4:4:4, colours keep their resolution
    else:
        picture.save(stream, "WEBP", quality=quality, lossless=quality == 100, exact=True)
    return stream.getvalue()


def check_channels(codec: str, channels: int) -> None:
    """Raise ValueError if `codec` cannot hold images of so many channels."""
    can = {"jpeg": (1, 3), "webp": (3,)}.get(codec, (1, 2, 3, 4))
    if channels not in can:
        raise ValueError(f"codec {codec} supports {' or '.join(map(str, can))} channels, not {channels}")
