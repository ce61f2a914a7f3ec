"""One class a sample: a column of the index, with a histogram of each shard in the manifest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from data_pipelines.fields.decoder import ClassDecoder, FieldDecoder
from data_pipelines.fields.kind import FieldKind, Value
from data_pipelines.fields.spec import FieldSpec

if TYPE_CHECKING:
    from torch import Tensor


class ClassKind(FieldKind):
    """An index into the names of the classes, int64; -1 where the class of a sample is not known."""

    name = "class"
    codecs: ClassVar[Mapping[str, str]] = {}

    def check(self, spec: FieldSpec) -> None:
        """See FieldKind."""
        if (spec.shape, spec.dtype, spec.codec) != ((), "int64", ""):
            raise ValueError(f"a class is one int64 in the index, not {spec.dtype} of {spec.size_words}")
        if not spec.classes:
            raise ValueError("classes are not named")

    def probe(self, content: bytes) -> FieldSpec:
        """Tell that classes are not found so.

        Raises:
            ValueError: always, because one sample does not tell which classes there are.
        """
        raise ValueError("a single sample does not show all classes: declare them in the manifest")

    def read(self, spec: FieldSpec, content: bytes) -> Value:
        """See FieldKind; the file is an index as text, as WebDataset has it."""
        text = content.decode("ascii", "replace").strip()
        if not text.isdecimal() or int(text) >= len(spec.classes):
            raise ValueError(f"class {text!r} is not an index below {len(spec.classes)}")
        return np.array(int(text), dtype=np.int64)

    def encode(self, spec: FieldSpec, value: Value) -> bytes:
        """See FieldKind; this is what lies in the tar for readers of WebDatasets."""
        return str(int(value)).encode()

    def decoder(self, spec: FieldSpec) -> FieldDecoder:
        """See FieldKind."""
        return ClassDecoder()

    def normalise(self, spec: FieldSpec, batch: Tensor) -> Tensor:
        """Return class indices, int64, shape [N]."""
        return batch.long()
