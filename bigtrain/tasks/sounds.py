"""Sounds from generated spectrograms: what a sampler gives where a generator makes spectrograms (SpecGAN)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from pydantic import NonNegativeInt
from torch import Tensor

from bigtrain.core.rng import Draws
from bigtrain.engine.sampler import Networks
from bigtrain.ops.spectrogram import SpectrogramSettings
from bigtrain.tasks.samplers import SynthesisSampler
from data_pipelines.fields.spec import FieldSpec


class SoundConfig(SpectrogramSettings):
    """How generated spectrograms become sounds; the settings are those of the derived field `spectrogram`.

    Attributes:
        field: stored field of the sounds, which samples are compared with.
        iterations: number of iterations of the algorithm of Griffin & Lim; 16 in the paper.
    """

    field: str = "audio"
    iterations: NonNegativeInt = 16

    def check_equal(self, derived: SpectrogramSettings, key: str, *, of: str) -> None:
        """See that the spectrograms of the data have the same settings.

        Args:
            derived: settings of the derived field.
            key: of the derived field, for messages.
            of: field from which it is computed.

        Raises:
            ValueError: they differ.
        """
        ours, theirs = self.settings.model_dump(), derived.model_dump()
        ours["field"], theirs["field"] = self.field, of
        for name, value in theirs.items():
            if ours[name] != value:
                raise ValueError(f"sound.{name} is {ours[name]}, but {key} has {value}: use {value} in both")

    def find(self, fields: Mapping[str, FieldSpec], spectrogram: str) -> FieldSpec:
        """Return the spec of the sounds.

        Args:
            fields: of the samples.
            spectrogram: the field that is generated.

        Raises:
            ValueError: there is no such field, or it is none of sounds of which these are the spectrograms.
        """
        found = fields.get(self.field)
        if found is None or found.kind != "audio" or found.shape[0] != 1:
            raise ValueError(
                f"sound.field: '{self.field}' is not a field of sounds of one channel; data has {_all(fields)}"
            )
        shape = self.shape(found.shape[1])
        if fields[spectrogram].shape != shape:
            raise ValueError(
                f"sound: n_fft {self.n_fft} and hop {self.hop} make spectrograms of {list(shape)}, but the field "
                f"'{spectrogram}' has the shape {list(fields[spectrogram].shape)}: use the settings of data.derived"
            )
        return found


@dataclass(frozen=True)
class SoundSampler(SynthesisSampler):
    """Samples sounds: a generator makes their spectrograms, and their phases are estimated.

    Attributes:
        spectrogram: settings of the spectrograms.
        iterations: of the algorithm of Griffin & Lim.
    """

    kind: ClassVar[str] = "synthesis_of_spectrograms"

    spectrogram: SpectrogramSettings = field(default=SpectrogramSettings())
    iterations: int = 16

    def make(self, networks: Networks, inputs: Mapping[str, Tensor], draws: Draws, **choices: Any) -> dict[str, Tensor]:
        """Generate one sound a draw, shape [N, 1, L]; see `SynthesisSampler.make`."""
        ((name, made),) = super().make(networks, inputs, draws, **choices).items()
        _, _, bands, frames = made.shape
        phase = 2 * math.pi * draws.of("phase").uniform(bands, frames)
        return {name: self.spectrogram.sound(made, phase, iterations=self.iterations)}

    def describe(self) -> dict[str, Any]:
        """See Sampler."""
        settings = self.spectrogram.model_dump(mode="json")
        return {**super().describe(), "spectrogram": settings, "iterations": self.iterations}

    @classmethod
    def read(cls, description: Mapping[str, Any]) -> "SoundSampler":
        """See TaskSampler."""
        settings = SpectrogramSettings.model_validate(description["spectrogram"])
        found = super().read({**description, "spectrogram": settings})
        assert isinstance(found, SoundSampler)
        return found


def _all(fields: Mapping[str, FieldSpec]) -> str:
    return ", ".join(fields) or "none"
