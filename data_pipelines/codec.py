"""How one image lies in a tar: PNG (small, any viewer opens it) or raw NumPy (fastest to read)."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

CODECS = ("png", "npy")

Pixels = NDArray[np.uint8]
"""An image, uint8, shape [C, H, W] with 1 or 3 channels."""


def encode(image: Pixels, codec: str) -> bytes:
    """Turn an image into the bytes of a file."""
    stream = io.BytesIO()
    if codec == "npy":
        np.save(stream, image)
    elif codec == "png":
        picture = image[0] if image.shape[0] == 1 else np.ascontiguousarray(image.transpose(1, 2, 0))
        Image.fromarray(picture).save(stream, "PNG")
    else:
        raise ValueError(f"unknown codec {codec!r}: choose one of {', '.join(CODECS)}")
    return stream.getvalue()


def decode(data: bytes | memoryview, codec: str, out: Pixels) -> None:
    """Read an image's bytes into `out`, which has the shape that the image must have.

    Raises:
        ValueError: not an image of this codec, or of another shape.
    """
    if codec == "npy":
        image = np.load(io.BytesIO(data), allow_pickle=False)
    else:
        try:
            with Image.open(io.BytesIO(data)) as picture:
                image = np.asarray(picture)
        except (UnidentifiedImageError, OSError, SyntaxError) as error:
            raise ValueError(f"unreadable image: {error}") from None
        image = image[None] if image.ndim == 2 else image.transpose(2, 0, 1)
    if image.shape != out.shape or image.dtype != np.uint8:
        raise ValueError(f"an image of {image.dtype} {image.shape}, where uint8 {out.shape} is expected")
    out[...] = image
