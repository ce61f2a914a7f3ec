"""The mel spectrogram of a sound: what a vocoder is given."""

from typing import Literal

from torch import Tensor

from bigtrain.augment.derived.base import DerivedField
from bigtrain.core.rng import Draws
from bigtrain.ops.mel import MelSettings
from data_pipelines.fields.spec import FieldSpec


class MelConfig(DerivedField, MelSettings):
    """The logarithm of a sound's magnitudes in mel bands; its `rate` is that of the sound."""

    kind: Literal["mel"]
    of: str = "audio"

    def spec(self, source: FieldSpec) -> FieldSpec:
        """See DerivedField."""
        if source.kind != "audio" or source.shape[0] != 1:
            raise ValueError(f"needs sounds of one channel, and its source is '{source.kind}' of {source.size_words}")
        if source.rate is not None and source.rate != self.rate:
            raise ValueError(f"rate {self.rate}: the sounds have {source.rate:g} samples a second")
        return FieldSpec("array", (self.bands, self.frames(source.shape[1])), "float32", codec="npy")

    def compute(self, field: Tensor, draws: Draws) -> Tensor:
        """See DerivedField."""
        return self.spectrogram(field)
