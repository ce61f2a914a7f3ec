"""How one image lies in a tar: PNG (small, any viewer opens it) or raw NumPy (fastest to read)."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

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
