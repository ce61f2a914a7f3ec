"""A kind of field: maps of heights in metres, which reach the networks in kilometres."""

from torch import Tensor

from data_pipelines.fields.array import ArrayKind
from data_pipelines.fields.spec import FieldSpec


class HeightsKind(ArrayKind):
    """Arrays of heights; see FieldKind."""

    name = "heights"

    def normalise(self, spec: FieldSpec, batch: Tensor) -> Tensor:
        """See FieldKind."""
        return batch / 1000
