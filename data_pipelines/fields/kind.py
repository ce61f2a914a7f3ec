"""What a kind of field must be able to do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from numpy.typing import NDArray

from data_pipelines.fields.decoder import FieldDecoder
from data_pipelines.fields.spec import FieldSpec

if TYPE_CHECKING:
    from torch import Tensor

LARGEST_VALUE = 2**31
"""Bytes of a decoded sample; a compressed file that holds more is a bomb, and is not decoded."""

Value = NDArray[Any]
"""A sample's field, decoded."""


class FieldKind(ABC):
    """A kind of field: its files, its arrays, and its tensors. It has no state.

    Attributes:
        name: as manifests have it.
        codecs: codec -> extension of its files; the first is the default. Empty: the field is a column of the index.
        usual_dtype: NumPy's name of its arrays' type where a config does not say it.
        has_rate: whether its samples have a number of values per second.
    """

    name: ClassVar[str]
    codecs: ClassVar[Mapping[str, str]]
    usual_dtype: ClassVar[str] = "float32"
    has_rate: ClassVar[bool] = False

    @abstractmethod
    def check(self, spec: FieldSpec) -> None:
        """Raise ValueError, saying how to correct it, if no field of this kind can be as `spec` says."""

    @abstractmethod
    def probe(self, content: bytes) -> FieldSpec:
        """Return the spec of a field whose samples are all like this file, with the codec that is usual for it.

        Raises:
            ValueError: it is no file of this kind.
        """

    @abstractmethod
    def read(self, spec: FieldSpec, content: bytes) -> Value:
        """Return the array, as `spec` says, of somebody's file: of any codec that is known.

        Raises:
            ValueError: it is no file of this kind, or cannot become such an array without losing anything.
        """

    @abstractmethod
    def encode(self, spec: FieldSpec, value: Value) -> bytes:
        """Return the file, of the spec's codec, of a sample's array.

        Raises:
            ValueError: the array is not as `spec` says.
        """

    @abstractmethod
    def decoder(self, spec: FieldSpec) -> FieldDecoder:
        """Return a decoder of files of the spec's codec."""

    @abstractmethod
    def normalise(self, spec: FieldSpec, batch: Tensor) -> Tensor:
        """Convert a batch, shape [N, *spec.shape], to what networks take, where it lies (on the device)."""

    def stored(self, spec: FieldSpec, batch: Tensor) -> Tensor:
        """Convert what networks make back to what is stored: the inverse of `normalise`, rounded and clamped.

        Raises:
            ValueError: fields of this kind are not generated.
        """
        raise ValueError(f"fields of the kind '{self.name}' are not generated")

    def suffix(self, spec: FieldSpec) -> str:
        """Return the extension of the field's files."""
        return self.codecs[spec.codec]


def check_value(spec: FieldSpec, value: Value) -> None:
    """Raise ValueError unless an array has the shape and the type that `spec` says."""
    if value.shape != spec.shape or value.dtype.name != spec.dtype:
        found = "x".join(map(str, value.shape)) or "one number"
        raise ValueError(f"{value.dtype.name} of {found}, expected {spec.dtype} of {spec.size_words}")


def check_codec(kind: FieldKind, spec: FieldSpec) -> None:
    """Raise ValueError unless the spec's codec is one of the kind's."""
    if spec.codec not in kind.codecs:
        known = ", ".join(kind.codecs) or "none"
        raise ValueError(f"codec {spec.codec!r} is not a codec of the kind {kind.name}: use {known}")
