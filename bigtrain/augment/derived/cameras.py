"""Cameras that are described by where they stand around an object."""

import math
from typing import ClassVar, Literal

from pydantic import Field, PositiveFloat
from torch import Tensor

from bigtrain.augment.derived.base import DerivedField
from bigtrain.core.rng import Draws
from bigtrain.ops.cameras import CAMERA, orbit_cameras
from data_pipelines.camera import DISTANCE, FIELD_OF_VIEW
from data_pipelines.fields.spec import FieldSpec


class OrbitCameraConfig(DerivedField):
    """The 25 numbers of a camera that looks at the origin, from its yaw and pitch; see `bigtrain.ops.cameras`.

    The defaults are those of the views of meshes, see `data_pipelines.camera`.

    Attributes:
        distance: of the camera from the origin.
        field_of_view: of the whole image, in degrees.
    """

    of_whole_images: ClassVar[bool] = True

    kind: Literal["orbit_camera"]
    of: str = "pose"
    distance: PositiveFloat = DISTANCE
    field_of_view: float = Field(default=math.degrees(FIELD_OF_VIEW), gt=0, lt=180)

    def spec(self, source: FieldSpec) -> FieldSpec:
        """See DerivedField."""
        if source.shape != (2,) or source.dtype != "float32":
            raise ValueError(
                f"needs yaw and pitch in radians, a float32 array of the shape [2], but its source is {source.kind} "
                f"{source.dtype} of the shape {list(source.shape)}"
            )
        return FieldSpec("array", (CAMERA,), "float32", codec="npy")

    def compute(self, field: Tensor, draws: Draws) -> Tensor:
        """See DerivedField."""
        return orbit_cameras(field, distance=self.distance, field_of_view=self.field_of_view)
