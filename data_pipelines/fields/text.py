"""Texts: UTF-8, padded with zeros to a fixed number of bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from data_pipelines.fields.decoder import FieldDecoder
from data_pipelines.fields.kind import FieldKind, Value, check_codec
from data_pipelines.fields.spec import FieldSpec

if TYPE_CHECKING:
    from torch import Tensor


NO_UTF_8 = "not a text in UTF-8"


class TextKind(FieldKind):
    """UTF-8 bytes, uint8 [L], with zeros behind the text; all zeros where a sample has none."""

    name = "text"
    codecs: ClassVar[Mapping[str, str]] = {"txt": "txt"}
    usual_dtype: ClassVar[str] = "uint8"

    def check(self, spec: FieldSpec) -> None:
        """See FieldKind."""
        check_codec(self, spec)
        if spec.dtype != "uint8" or len(spec.shape) != 1:
            raise ValueError(f"{spec.dtype} of {spec.size_words}, expected uint8 of the longest text's bytes")

    def probe(self, content: bytes) -> FieldSpec:
        """See FieldKind; longer texts need a longer field."""
        _check_text(memoryview(content))
        return FieldSpec(self.name, (max(len(content), 1),), "uint8", codec="txt")

    def read(self, spec: FieldSpec, content: bytes) -> Value:
        """See FieldKind."""
        value = np.empty(spec.shape, np.uint8)
        self.decoder(spec).decode(memoryview(content), value)
        return value

    def encode(self, spec: FieldSpec, value: Value) -> bytes:
        """See FieldKind."""
        return value.tobytes().rstrip(b"\0")

    def decoder(self, spec: FieldSpec) -> FieldDecoder:
        """See FieldKind."""
        return _TextDecoder(spec.shape, spec.dtype)

    def normalise(self, spec: FieldSpec, batch: Tensor) -> Tensor:
        """Return the bytes as they are, uint8, shape [N, L]: what a text means, its encoder knows."""
        return batch


class _TextDecoder(FieldDecoder):
    def decode(self, data: memoryview, out: NDArray[Any]) -> None:
        """See FieldDecoder."""
        if len(data) > out.size:
            raise ValueError(f"a text of {len(data)} bytes, but the longest of the dataset has {out.size}")
        _check_text(data)
        out[: len(data)] = np.frombuffer(data, np.uint8)
        out[len(data) :] = 0


def _check_text(data: memoryview) -> None:
    try:
        str(data, "utf-8")
    except UnicodeDecodeError as error:
        words = f"{error.reason} at byte {error.start}"
        raise ValueError(f"{NO_UTF_8} ({words}; iconv -f latin1 -t utf-8 converts one of Western Europe)") from None
    if 0 in bytes(data):
        raise ValueError("a text with a zero byte in it")
