"""Sources of images that fit into memory and have one size."""

import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from data_pipelines.codec import Pixels
from data_pipelines.protocol import Protocol
from data_pipelines.source import ArrayReader, Item, Source


def from_arrays(
    name: str,
    images: Pixels,
    labels: NDArray[np.integer] | Sequence[int] | None = None,
    *,
    classes: Sequence[str] = (),
    licence: str = "not stated",
    origin: str = "arrays",
    usual: Protocol | None = None,
) -> Source:
    """Return a source of images in memory.

    Args:
        name: of the set.
        images: uint8, shape [N, C, H, W].
        labels: class indices, shape [N].
        classes: their names.
        licence: of the images.
        origin: where they came from.
        usual: the protocol that suits them; default: as they are.
    """
    _, channels, height, width = images.shape
    numbers = [-1] * len(images) if labels is None else [int(label) for label in labels]
    return Source(
        name=name,
        items=[Item(str(number), number, label) for number, label in enumerate(numbers)],
        reader=ArrayReader(images),
        classes=tuple(classes),
        licence=licence,
        origin=origin,
        usual=usual or Protocol(height, width, channels, crop="exact"),
        stamp=str(zlib.crc32(np.ascontiguousarray(images).data)),
    )
