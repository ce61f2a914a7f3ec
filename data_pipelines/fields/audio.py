"""Sounds of one length and rate."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from data_pipelines.fields.decoder import FieldDecoder
from data_pipelines.fields.kind import LARGEST_VALUE, FieldKind, Value, check_codec, check_value
from data_pipelines.fields.npy import NpyDecoder, encode_npy
from data_pipelines.fields.spec import FieldSpec

if TYPE_CHECKING:
    from torch import Tensor

_SUBTYPES = {"int16": "PCM_16", "float32": "FLOAT"}
"""Type of the array -> libsndfile's name of such samples."""


class AudioKind(FieldKind):
    """Sounds, [channels, samples]: int16 where the source has 16 bits, else float32 in [-1, 1]."""

    name = "audio"
    codecs: ClassVar[Mapping[str, str]] = {"flac": "flac", "wav": "wav", "npy": "npy"}
    usual_dtype: ClassVar[str] = "int16"
    has_rate: ClassVar[bool] = True

    def check(self, spec: FieldSpec) -> None:
        """See FieldKind."""
        check_codec(self, spec)
        if spec.dtype not in _SUBTYPES or len(spec.shape) != 2:
            raise ValueError(f"{spec.dtype} of {spec.size_words}, expected int16 or float32 of channels x samples")
        if not spec.rate:
            raise ValueError("has no rate (samples per second)")
        if spec.codec == "flac" and spec.dtype != "int16":
            raise ValueError("codec flac supports 16 bits only: choose wav or npy for float32")

    def probe(self, content: bytes) -> FieldSpec:
        """See FieldKind."""
        value, rate = _read(content)
        codec = "flac" if value.dtype == np.int16 and len(value) <= 8 else "wav"
        return FieldSpec(self.name, value.shape, value.dtype.name, rate=rate, codec=codec)

    def read(self, spec: FieldSpec, content: bytes) -> Value:
        """See FieldKind; silence is put behind a shorter sound, and a longer one is cut off.

        Sounds of another rate, or with other channels, are not converted: ValueError.
        """
        value, rate = _read(content, spec.dtype)
        channels, samples = spec.shape
        if (len(value), rate) != (channels, spec.rate):
            raise ValueError(f"{len(value)} channels at {rate} Hz, expected {channels} at {spec.rate} Hz")
        fitted = np.zeros(spec.shape, value.dtype)
        fitted[:, : value.shape[1]] = value[:, :samples]
        return fitted

    def encode(self, spec: FieldSpec, value: Value) -> bytes:
        """See FieldKind."""
        import soundfile

        check_value(spec, value)
        if spec.codec == "npy":
            return encode_npy(value)
        stream = io.BytesIO()
        assert spec.rate is not None
        form = "FLAC" if spec.codec == "flac" else "WAV"
        soundfile.write(stream, value.T, int(spec.rate), _SUBTYPES[spec.dtype], format=form)
        return stream.getvalue()

    def decoder(self, spec: FieldSpec) -> FieldDecoder:
        """See FieldKind."""
        form = NpyDecoder if spec.codec == "npy" else _SoundDecoder
        return form(spec.shape, spec.dtype)

    def normalise(self, spec: FieldSpec, batch: Tensor) -> Tensor:
        """Return sounds in [-1, 1], float32, shape [N, channels, samples]."""
        return batch.float() / 32768.0 if spec.dtype == "int16" else batch

    def stored(self, spec: FieldSpec, batch: Tensor) -> Tensor:
        """See FieldKind."""
        import torch  # whoever has tensors has it loaded

        if spec.dtype == "int16":
            return (batch.float() * 32768.0).round().clamp(-32768, 32767).to(torch.int16)
        return batch.float().clamp(-1, 1)


class _SoundDecoder(FieldDecoder):
    def decode(self, data: memoryview, out: NDArray[Any]) -> None:
        """See FieldDecoder."""
        value, _ = _read(bytes(data), self.dtype.name)
        if value.shape != self.shape:
            raise ValueError(f"a sound of {value.shape} (channels, samples), but {self.shape} is expected")
        out[...] = value


def _read(content: bytes, dtype: str | None = None) -> tuple[Value, int]:
    """Return a sound [channels, samples] and its rate, as `dtype`, or as it is: int16 of 16 bits, else float32."""
    import soundfile  # loads a library, which only sets of sounds need

    try:
        with soundfile.SoundFile(io.BytesIO(content)) as file:
            dtype = dtype or ("int16" if file.subtype == "PCM_16" else "float32")
            if file.frames * file.channels * np.dtype(dtype).itemsize > LARGEST_VALUE:
                raise ValueError(f"a sound of more than {LARGEST_VALUE} bytes")
            value: Value = file.read(dtype=dtype, always_2d=True)
            return value.T, int(file.samplerate)
    except (soundfile.LibsndfileError, RuntimeError, TypeError) as error:
        raise ValueError(f"unreadable sound ({error})") from None
