"""Fields that are computed from sounds: excerpts, and spectrograms that a vocoder is given or SpecGAN generates."""

import math
from dataclasses import replace
from typing import ClassVar, Literal

import torch
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor

from bigtrain.augment.derived.base import DerivedField
from bigtrain.core.rng import Draws
from bigtrain.ops.instantaneous_frequency import FrequencySettings
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
            raise ValueError(f"rate {self.rate}: the sounds have {source.rate:g} samples per second")
        return FieldSpec("array", (self.bands, self.frames(source.shape[1])), "float32", codec="npy")

    def compute(self, field: Tensor, draws: Draws) -> Tensor:
        """See DerivedField."""
        return self.spectrogram(field)


class SpectrogramConfig(DerivedField, SpectrogramSettings):
    """The log magnitudes of a sound, scaled to [-1, 1], as an array of the shape of a grey image.

    Attributes:
        iterations: number of iterations of the algorithm of Griffin & Lim, which estimates the phases where a generated
            spectrogram becomes a sound; 16 in SpecGAN's paper.
    """

    invertible: ClassVar[bool] = True

    kind: Literal["spectrogram"]
    of: str = "audio"
    iterations: NonNegativeInt = 16

    def spec(self, source: FieldSpec) -> FieldSpec:
        """See DerivedField."""
        return _spectrogram_spec(self, source)

    def compute(self, field: Tensor, draws: Draws) -> Tensor:
        """See DerivedField."""
        return self.spectrogram(field)

    def invert(self, field: Tensor, draws: Draws) -> Tensor:
        """See DerivedField: the first phases are random."""
        _, _, bands, frames = field.shape
        phase = 2 * math.pi * draws.of("phase").uniform(bands, frames)
        return self.sound(field, phase, iterations=self.iterations)


class FrequencyConfig(DerivedField, FrequencySettings):
    """The log magnitudes and instantaneous frequencies of a sound, scaled to [-1, 1], as an image of two channels."""

    invertible: ClassVar[bool] = True

    kind: Literal["instantaneous_frequency"]
    of: str = "audio"

    def spec(self, source: FieldSpec) -> FieldSpec:
        """See DerivedField."""
        return _spectrogram_spec(self, source)

    def compute(self, field: Tensor, draws: Draws) -> Tensor:
        """See DerivedField."""
        return self.spectrogram(field)

    def invert(self, field: Tensor, draws: Draws) -> Tensor:
        """See DerivedField."""
        return self.sound_of(field)


def _spectrogram_spec(settings: SpectrogramSettings, source: FieldSpec) -> FieldSpec:
    _check_sounds(source)
    if source.shape[0] != 1:
        raise ValueError(f"needs sounds of one channel, but its source has {source.shape[0]}")
    return FieldSpec("array", settings.shape(source.shape[1]), "float32", codec="npy")


def _check_sounds(source: FieldSpec) -> None:
    if source.kind != "audio":
        raise ValueError(f"needs sounds, but its source has the kind '{source.kind}'")
