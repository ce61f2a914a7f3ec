"""Point clouds [N, 3] as PLY files (Turk 1994), which viewers of 3-D models open."""

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_pipelines.fields.decoder import FieldDecoder

MAGIC = b"ply\n"
_HEADER = re.compile(
    rb"ply\nformat binary_little_endian 1\.0\nelement vertex (\d{1,10})\n"
    rb"property float x\nproperty float y\nproperty float z\nend_header\n"
)


class PlyDecoder(FieldDecoder):
    """Copies the points of PLY files that `encode_ply` has written."""

    def decode(self, data: memoryview, out: NDArray[Any]) -> None:
        """See FieldDecoder."""
        out[...] = read_ply(data, expected=self.shape[0])


def check_points(shape: tuple[int, ...], dtype: str) -> None:
    """Raise ValueError unless arrays of this shape and type are points that a PLY file can hold."""
    if len(shape) != 2 or shape[1] != 3 or dtype != "float32":
        raise ValueError(f"PLY files contain float32 points [N, 3], not {dtype} of {list(shape)}")


def encode_ply(points: NDArray[Any]) -> bytes:
    """Return the PLY file, binary and little-endian, of points, float32, shape [N, 3]."""
    header = (
        f"ply\nformat binary_little_endian 1.0\nelement vertex {len(points)}\n"
        "property float x\nproperty float y\nproperty float z\nend_header\n"
    )
    return header.encode() + np.ascontiguousarray(points, "<f4").tobytes()


def read_ply(content: bytes | memoryview, *, expected: int | None = None) -> NDArray[np.float32]:
    """Return the points of a PLY file of the form that `encode_ply` writes, float32, shape [N, 3].

    Args:
        content: of the file.
        expected: number of points; None for any.

    Raises:
        ValueError: it is of another form, is cut off, or has another number of points.
    """
    found = _HEADER.match(content)
    if not found:
        raise ValueError("not a PLY file of binary, little-endian points with only the properties float x, y, z")
    points, start = int(found[1]), found.end()
    if len(content) - start != 12 * points or expected not in (None, points):
        raise ValueError(f"{len(content) - start} bytes of {points} points, expected {expected or points} points")
    return np.frombuffer(content, "<f4", offset=start).reshape(-1, 3).astype(np.float32, copy=False)
