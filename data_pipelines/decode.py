"""Read the bytes of one image into memory that is there already."""

import io

import numpy as np
from PIL import Image, UnidentifiedImageError

from data_pipelines.codec import Pixels


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
