"""Several classes a sample, or soft ones: a number for each class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from data_pipelines.fields.decoder import FieldDecoder
from data_pipelines.fields.kind import FieldKind, Value, check_codec, check_value
from data_pipelines.fields.npy import MAGIC, NpyDecoder, encode_npy, read_npy
from data_pipelines.fields.spec import FieldSpec
from data_pipelines.files import parse_json

if TYPE_CHECKING:
    from torch import Tensor


class ClassesKind(FieldKind):
    """A float32 vector with a number for each class: 0 or 1 for several labels, shares for soft ones."""

    name = "classes"
    codecs: ClassVar[Mapping[str, str]] = {"npy": "npy"}

    def check(self, spec: FieldSpec) -> None:
        """See FieldKind."""
        check_codec(self, spec)
        if spec.dtype != "float32" or spec.shape != (len(spec.classes),) or not spec.classes:
            raise ValueError(f"{spec.dtype} of {spec.size_words}, expected a float32 for each of its named classes")

    def probe(self, content: bytes) -> FieldSpec:
        """See FieldKind; classes of an array are called by their numbers."""
        value = read_npy(content)
        if value.ndim != 1:
            raise ValueError(f"an array of {value.ndim} dimensions, expected one: a number for each class")
        names = tuple(str(number) for number in range(len(value)))
        return FieldSpec(self.name, value.shape, "float32", names, codec="npy")

    def read(self, spec: FieldSpec, content: bytes) -> Value:
        """See FieldKind; the file is an array, or a JSON list of names, or an object of names and numbers."""
        value = read_npy(content).astype(np.float32) if content.startswith(MAGIC) else _from_json(spec, content)
        check_value(spec, value)
        return value

    def encode(self, spec: FieldSpec, value: Value) -> bytes:
        """See FieldKind."""
        check_value(spec, value)
        return encode_npy(value)

    def decoder(self, spec: FieldSpec) -> FieldDecoder:
        """See FieldKind."""
        return NpyDecoder(spec.shape, spec.dtype)

    def normalise(self, spec: FieldSpec, batch: Tensor) -> Tensor:
        """Return the numbers as they are, float32, shape [N, classes]."""
        return batch


def _from_json(spec: FieldSpec, content: bytes) -> Value:
    try:
        document = parse_json(content)
        weights = dict.fromkeys(document, 1.0) if isinstance(document, list) else dict(document)
        value = np.zeros(spec.shape, np.float32)
        for name, weight in weights.items():
            value[spec.classes.index(name)] = weight
    except (ValueError, TypeError) as error:
        raise ValueError(f"not a list of classes, nor an object of classes and numbers ({error})") from None
    return value
