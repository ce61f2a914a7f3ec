"""The numbers of a sample themselves as features: for rows of tables, latents, and metrics of point clouds."""

import hashlib
from collections.abc import Mapping, Sequence
from math import prod

from torch import Tensor, nn

from bigtrain.evaluation.errors import EvaluationError
from bigtrain.evaluation.extractors.base import FeatureDtype
from data_pipelines.fields.spec import FieldSpec

POINTS = "points"
"""Layer of the coordinates of a point cloud [N, 3]."""


class Values(nn.Module):
    """No network: a sample's numbers, one after the other; see Extractor and FitsFields."""

    name = short_name = "values"
    preprocessing = "the numbers of the field as they are stored"
    weights_sha256 = hashlib.sha256(b"").hexdigest()
    dtype: FeatureDtype = "fp32"

    def __init__(self) -> None:
        super().__init__()
        self.layers: Mapping[str, int] = {}

    def fit(self, spec: FieldSpec, name: str) -> None:
        """See FitsFields.

        Raises:
            EvaluationError: the field has images, or one number of another type than real ones.
        """
        if spec.kind not in ("array", "audio"):
            raise EvaluationError(
                f"values are features of fields of the kinds array and audio, '{name}' is {spec.kind}"
            )
        if spec.dtype.startswith("complex"):
            raise EvaluationError(f"values of '{name}' are complex; use a field of real numbers")
        self.layers = {"pool": prod(spec.shape)}
        if len(spec.shape) == 2 and spec.shape[1] == 3:
            self.layers = {**self.layers, POINTS: prod(spec.shape)}

    def forward(self, image: Tensor, layers: Sequence[str] = ("pool",)) -> dict[str, Tensor]:
        """See Extractor; `image` is the field as it is stored."""
        rows = image.flatten(1).float() if image.ndim > 1 else image[:, None].float()
        return dict.fromkeys(layers, rows)
