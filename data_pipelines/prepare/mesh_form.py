"""What a user asks of meshes."""

import hashlib
from dataclasses import dataclass
from math import pi

import numpy as np
from numpy.typing import NDArray

from data_pipelines.camera import DISTANCE, FIELD_OF_VIEW
from data_pipelines.errors import DataError
from data_pipelines.fields.kind import LARGEST_VALUE
from data_pipelines.fields.spec import FieldSpec

ARRAY = "array"
"""Name of the field of volumes and of points."""

POSE = "pose"
"""Name of the field of the cameras' angles beside pictures."""

IMAGE = "image"

_LEAST_VOXELS = 4
_WAYS = "--voxels 32 (volumes), --points 2048 (points on the surface) or --views 8 (pictures)"


@dataclass(frozen=True)
class MeshForm:
    """What is made of meshes: one of `voxels`, `points` and `views`.

    Attributes:
        voxels: make volumes of so many voxels along each axis.
        points: make clouds of so many points on the surface.
        views: make so many pictures of each shape, each with the pose of its camera.
        resolution: height and width of the pictures.
        yaw: least and greatest yaw of the cameras in radians; the yaw is drawn uniformly between these.
        pitch: the same of their pitch.
    """

    voxels: int | None = None
    points: int | None = None
    views: int | None = None
    resolution: tuple[int, int] | None = None
    yaw: tuple[float, float] = (-pi, pi)
    pitch: tuple[float, float] = (-0.5, 0.5)

    @property
    def is_usual(self) -> bool:
        """Whether nothing is asked for that only meshes have."""
        return self == MeshForm(resolution=self.resolution)

    def check(self) -> None:
        """Raise DataError if this cannot be made of meshes."""
        asked = {name: getattr(self, name) for name in ("voxels", "points", "views")}
        given = {name: number for name, number in asked.items() if number is not None}
        if len(given) != 1:
            found = " and ".join(f"--{name}" for name in given) or "none"
            raise DataError(f"meshes need one of {_WAYS}; given: {found}")
        ((name, number),) = given.items()
        least = _LEAST_VOXELS if name == "voxels" else 1
        size = {"voxels": 4 * number**3, "points": 12 * number, "views": 1}[name]
        if number < least or size > LARGEST_VALUE:
            raise DataError(
                f"--{name} {number}: expected {least} or more, and samples of at most {LARGEST_VALUE} bytes"
            )
        if self.views and self.resolution is None:
            raise DataError("--views needs the pictures' size, such as --resolution 64")
        if not self.views and (self.resolution or self != MeshForm(**asked)):
            raise DataError("--resolution, --yaw and --pitch are for --views")
        _check_range("yaw", self.yaw, -2 * pi, 2 * pi)
        _check_range("pitch", self.pitch, -pi / 2, pi / 2)

    @property
    def images(self) -> tuple[str, ...]:
        """Names of the fields that are pictures."""
        return (IMAGE,) if self.views else ()

    def fields(self) -> dict[str, FieldSpec]:
        """Return the fields of other kinds."""
        if self.views:
            return {POSE: FieldSpec("array", (2,), "float32", codec="npy")}
        shape = (1, self.voxels, self.voxels, self.voxels) if self.voxels else (self.points or 1, 3)
        return {ARRAY: FieldSpec("array", shape, "float32", codec="npy")}

    def pose(self, name: str, number: int) -> NDArray[np.float32]:
        """Return yaw and pitch of the camera of view `number` of a file, float32, shape [2]."""
        low, high = np.array([self.yaw, self.pitch]).T
        pose: NDArray[np.float32] = (low + (high - low) * uniform(name, 2, number)).astype(np.float32)
        return pose

    @property
    def words(self) -> str:
        """Say what is done, for the manifest."""
        if self.voxels:
            return f"meshes as {self.voxels}x{self.voxels}x{self.voxels} voxels, 1 inside and -1 outside"
        if self.points:
            return f"meshes as {self.points} points on the surface, in the ball of radius 1"
        angles = " and ".join(
            f"{name} in [{low:.4g}, {high:.4g}]" for name, (low, high) in (("yaw", self.yaw), ("pitch", self.pitch))
        )
        return (
            f"{self.views} views of each mesh in the ball of radius 1, {angles} rad, from distance {DISTANCE:g}, field "
            f"of view {FIELD_OF_VIEW:.4g} rad"
        )


def uniform(name: str, count: int, number: int = 0) -> NDArray[np.float64]:
    """Return numbers in [0, 1) that depend on a file's name and a number alone, shape [count]."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
    key = np.frombuffer(digest[:16], "<u8").astype(np.uint64)
    bits = np.random.Philox(key=key, counter=[0, 0, 0, number]).random_raw(count)
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def parse_range(option: str, text: str) -> tuple[float, float]:
    """Return the two numbers of `-0.5,0.5`.

    Raises:
        DataError: there are no two.
    """
    try:
        low, high = (float(word) for word in text.split(","))
    except ValueError:
        raise DataError(
            f"--{option} {text}: expected the least and the greatest angle in radians, such as -0.5,0.5"
        ) from None
    return low, high


def _check_range(option: str, angles: tuple[float, float], least: float, greatest: float) -> None:
    low, high = angles
    if not least <= low <= high <= greatest:
        raise DataError(
            f"--{option} {low:g},{high:g}: expected two ascending angles in radians from {least:.4g} to {greatest:.4g}"
        )
