"""Arrays of any shape and type of numbers: latents, volumes, float images, rows; kept bit for bit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from data_pipelines.fields.decoder import FieldDecoder
from data_pipelines.fields.kind import FieldKind, Value, check_codec, check_value
from data_pipelines.fields.npy import NpyDecoder, encode_npy, read_npy
from data_pipelines.fields.ply import MAGIC as PLY
from data_pipelines.fields.ply import PlyDecoder, check_points, encode_ply, read_ply
from data_pipelines.fields.spec import FieldSpec, check_dtype

if TYPE_CHECKING:
    from torch import Tensor


class ArrayKind(FieldKind):
    """Arrays as `.npy` files, or point clouds as `.ply` files; they reach the networks as they are."""

    name = "array"
    codecs: ClassVar[Mapping[str, str]] = {"npy": "npy", "ply": "ply"}

    def check(self, spec: FieldSpec) -> None:
        """See FieldKind."""
        check_codec(self, spec)
        check_dtype(spec.dtype)
        if spec.codec == "ply":
            check_points(spec.shape, spec.dtype)

    def probe(self, content: bytes) -> FieldSpec:
        """See FieldKind."""
        value = _read(content)
        check_dtype(value.dtype.name)
        return FieldSpec(self.name, value.shape, value.dtype.name, codec="npy")

    def read(self, spec: FieldSpec, content: bytes) -> Value:
        """See FieldKind."""
        value = _read(content)
        check_value(spec, value)
        return value

    def encode(self, spec: FieldSpec, value: Value) -> bytes:
        """See FieldKind."""
        check_value(spec, value)
        return encode_ply(value) if spec.codec == "ply" else encode_npy(value)

    def decoder(self, spec: FieldSpec) -> FieldDecoder:
        """See FieldKind."""
        decoder = PlyDecoder if spec.codec == "ply" else NpyDecoder
        return decoder(spec.shape, spec.dtype)

    def normalise(self, spec: FieldSpec, batch: Tensor) -> Tensor:
        """Return the batch as it is."""
        return batch

    def stored(self, spec: FieldSpec, batch: Tensor) -> Tensor:
        """See FieldKind."""
        import torch  # whoever has tensors has it loaded

        dtype: torch.dtype = getattr(torch, spec.dtype)
        if dtype.is_floating_point or dtype.is_complex:
            return batch.to(dtype)
        limits = torch.iinfo(dtype)
        return batch.round().clamp(limits.min, limits.max).to(dtype)


def _read(content: bytes) -> Value:
    return read_ply(content) if content.startswith(PLY) else read_npy(content)
