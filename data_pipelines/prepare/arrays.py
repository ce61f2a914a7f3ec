"""Sources of samples that fit into memory: images of one size, or any fields."""

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_pipelines.codec import Pixels
from data_pipelines.fields.spec import FieldSpec
from data_pipelines.protocol import ImageProtocol
from data_pipelines.source import ArrayReader, Item, Row, RowReader, Source


def from_arrays(
    name: str,
    images: Pixels,
    labels: NDArray[np.integer] | Sequence[int] | None = None,
    *,
    classes: Sequence[str] = (),
    licence: str = "not stated",
    origin: str = "arrays",
    usual: ImageProtocol | None = None,
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
        usual=usual or ImageProtocol(height, width, channels, crop="exact"),
        stamp=str(zlib.crc32(np.ascontiguousarray(images).data)),
    )


def from_fields(
    name: str,
    arrays: Mapping[str, NDArray[Any]],
    specs: Mapping[str, FieldSpec],
    labels: NDArray[np.integer] | Sequence[int] | None = None,
    *,
    classes: Sequence[str] = (),
    licence: str = "not stated",
    origin: str = "arrays",
) -> Source:
    """Return a source of samples in memory, of any kinds of fields but `class`; they are stored as they are.

    Args:
        name: of the set.
        arrays: a field each, shape [N, *spec.shape].
        specs: of the fields, by the same names.
        labels: class indices, shape [N].
        classes: their names.
        licence: of the samples.
        origin: where they came from.

    Raises:
        ValueError: arrays and specs do not fit together, or not all arrays have N rows.
    """
    counts = {len(array) for array in arrays.values()}
    if arrays.keys() != specs.keys() or len(counts) != 1:
        raise ValueError(f"{name}: fields {list(arrays)} of {sorted(counts)} samples, specs of {list(specs)}")
    first, *others = specs
    numbers = [-1] * counts.pop() if labels is None else [int(label) for label in labels]
    return Source(
        name=name,
        items=[
            Item(str(number), Row(first, number), label, {field: Row(field, number) for field in others})
            for number, label in enumerate(numbers)
        ],
        reader=RowReader(arrays),
        classes=tuple(classes),
        licence=licence,
        origin=origin,
        images=(),
        fields=specs,
        stamp=" ".join(str(zlib.crc32(np.ascontiguousarray(array).tobytes())) for array in arrays.values()),
    )
