"""Fields that are computed from sounds: excerpts, and spectrograms that a vocoder is given or SpecGAN generates."""

from dataclasses import replace
from typing import Literal

import torch
from pydantic import PositiveInt
from torch import Tensor

from bigtrain.augment.derived.base import DerivedField
from bigtrain.core.rng import Draws
from bigtrain.ops.mel import MelSettings
from bigtrain.ops.spectrogram import SpectrogramSettings
from data_pipelines.fields.spec import FieldSpec


class ExcerptConfig(DerivedField):
    """An excerpt of a sound that begins at a random position.

    Attributes:
        samples: length of the excerpt in samples.
    """

    kind: Literal["excerpt"]
    of: str = "audio"
    samples: PositiveInt

    def spec(self, source: FieldSpec) -> FieldSpec:
        """See DerivedField."""
        _check_sounds(source)
        if source.shape[1] < self.samples:
            raise ValueError(f"samples {self.samples}: the sounds have only {source.shape[1]}")
        return replace(source, shape=(source.shape[0], self.samples))

    def compute(self, field: Tensor, draws: Draws) -> Tensor:
        """See DerivedField."""
        begin = draws.integers(field.shape[2] - self.samples + 1, 1)
        places = begin + torch.arange(self.samples, device=field.device)
        return field.gather(2, places[:, None, :].expand(-1, field.shape[1], -1))


class MelConfig(DerivedField, MelSettings):
    """The logarithm of a sound's magnitudes in mel bands; its `rate` is that of the sound."""

    kind: Literal["mel"]
    of: str = "audio"

    def spec(self, source: FieldSpec) -> FieldSpec:
        """See DerivedField."""
        _check_sounds(source)
        if source.shape[0] != 1:
            raise ValueError(f"needs sounds of one channel, but its source has {source.shape[0]}")
        if source.rate is None:
            raise ValueError("needs the sample rate of the sounds: set data.fields.NAME.rate")
        if source.rate != self.rate:
            raise ValueError(f"rate {self.rate}: the sounds have {source.rate:g} samples a second")
        return FieldSpec("array", (self.bands, self.frames(source.shape[1])), "float32", codec="npy")

    def compute(self, field: Tensor, draws: Draws) -> Tensor:
        """See DerivedField."""
        return self.spectrogram(field)


class SpectrogramConfig(DerivedField, SpectrogramSettings):
    """The log magnitudes of a sound, scaled to [-1, 1], as an array of the shape of a grey image."""

    kind: Literal["spectrogram"]
    of: str = "audio"

    def spec(self, source: FieldSpec) -> FieldSpec:
        """See DerivedField."""
        _check_sounds(source)
        if source.shape[0] != 1:
            raise ValueError(f"needs sounds of one channel, but its source has {source.shape[0]}")
        return FieldSpec("array", self.shape(source.shape[1]), "float32", codec="npy")

    def compute(self, field: Tensor, draws: Draws) -> Tensor:
        """See DerivedField."""
        return self.spectrogram(field)


def _check_sounds(source: FieldSpec) -> None:
    if source.kind != "audio":
        raise ValueError(f"needs sounds, but its source has the kind '{source.kind}'")
