"""Write point clouds or meshes of solids of five classes: a box, cone, cylinder, ball and ring of random proportions.

python scripts/solids.py FOLDER [--points 2048] [--each 400] [--seed 0]
python scripts/solids.py FOLDER --meshes [--each 400] [--seed 0]

Each cloud is a file FOLDER/CLASS/NUMBER.npy: float32, shape [points, 3], evenly distributed over the surface of a solid
whose axis is upright (z), turned about it at random, and scaled into the unit ball. No dataset is downloaded:
`bigtrain data prepare arrays:FOLDER OUT` makes a dataset of the files.

With --meshes, each solid is a closed mesh in a file FOLDER/CLASS/NUMBER.ply, whose axis is upright (y), as
`bigtrain data prepare FOLDER OUT --views 8 --resolution 64` expects it. Its two halves (x > 0 and x < 0) have two
random colours, so that a picture tells from which side it was taken.
"""

import argparse
import colorsys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
CLASSES = ("ball", "box", "cone", "cylinder", "ring")
_ROUND = 48
"""Sides of what is round."""


def solid(kind: str, random: np.random.Generator) -> Array:
    """Return the triangles of a solid's surface, shape [triangles, 3 corners, 3]."""
    height = random.uniform(0.5, 2.0)
    if kind == "box":
        profile, sides = np.array([[0, 0], [1, 0], [1, height], [0, height]]), 4
    elif kind == "cylinder":
        profile, sides = np.array([[0, 0], [1, 0], [1, height], [0, height]]), _ROUND
    elif kind == "cone":
        profile, sides = np.array([[0, 0], [1, 0], [0, height]]), _ROUND
    elif kind == "ball":
        angle = np.linspace(-np.pi / 2, np.pi / 2, _ROUND // 2)
        profile, sides = np.stack([np.cos(angle), 0.5 * height * np.sin(angle)], 1), _ROUND
    else:
        angle, thickness = np.linspace(0, 2 * np.pi, _ROUND // 2), random.uniform(0.15, 0.45)
        profile, sides = np.stack([1 + thickness * np.cos(angle), thickness * np.sin(angle)], 1), _ROUND
    triangles = revolve(profile, sides)
    return triangles * [1, random.uniform(0.5, 1.0), 1] if kind == "box" else triangles


def revolve(profile: Array, sides: int) -> Array:
    """Return the triangles of the surface that a profile leaves when it is turned about the z axis.

    Args:
        profile: distances from the axis and heights, shape [corners, 2].
        sides: of the polygon that a turn is made of.
    """
    angle = np.linspace(0, 2 * np.pi, sides + 1)
    radius, height = profile[:, 0, None], profile[:, 1, None]
    grid = np.stack([radius * np.cos(angle), radius * np.sin(angle), height + 0 * angle], axis=-1)
    one, other, above, across = grid[:-1, :-1], grid[:-1, 1:], grid[1:, :-1], grid[1:, 1:]
    halves = [np.stack(corners, axis=2).reshape(-1, 3, 3) for corners in ((one, other, across), (one, across, above))]
    return np.concatenate(halves)


def sample_surface(triangles: Array, points: int, random: np.random.Generator) -> Array:
    """Return points that are evenly distributed over triangles, shape [points, 3]."""
    one, other, third = triangles[:, 0], triangles[:, 1], triangles[:, 2]
    areas = np.linalg.norm(np.cross(other - one, third - one), axis=1)
    chosen = random.choice(len(triangles), points, p=areas / areas.sum())
    u, v = random.random((2, points, 1))
    outside = u + v > 1  # of the triangle, inside the parallelogram: mirrored into it
    u, v = np.where(outside, 1 - u, u), np.where(outside, 1 - v, v)
    found: Array = one[chosen] + u * (other - one)[chosen] + v * (third - one)[chosen]
    return found


def cloud(kind: str, points: int, random: np.random.Generator) -> NDArray[np.float32]:
    """Return the point cloud of a random solid of a class, float32, shape [points, 3]."""
    triangles = solid(kind, random)
    corners = triangles.reshape(-1, 3)
    corners -= (corners.min(0) + corners.max(0)) / 2
    corners /= np.linalg.norm(corners, axis=1).max()
    turn = random.uniform(0, 2 * np.pi)
    matrix = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    return (sample_surface(triangles, points, random) @ matrix.T).astype(np.float32)


def coloured(kind: str, random: np.random.Generator) -> tuple[Array, NDArray[np.uint8]]:
    """Return the triangles of a random solid of a class, y upwards, [T, 3 corners, 3], and their colours, [T, 3]."""
    x, y, z = np.moveaxis(solid(kind, random).round(6), -1, 0)  # both ends of a turn are the same
    triangles = np.stack([x, z, -y], axis=-1)
    hues = random.random() + np.array([0, random.uniform(0.25, 0.75)])
    palette = [colorsys.hsv_to_rgb(hue % 1, random.uniform(0.5, 0.9), random.uniform(0.7, 1.0)) for hue in hues]
    halves = (triangles[..., 0].mean(1) > 0).astype(int)
    return triangles, (255 * np.array(palette)).astype(np.uint8)[halves]


def write_ply(path: Path, triangles: Array, colours: NDArray[np.uint8]) -> None:
    """Write a mesh of coloured triangles [T, 3, 3] as a binary PLY file."""
    vertex = np.dtype([("place", "<f4", 3), ("colour", "u1", 3)])
    face = np.dtype([("corners", "u1"), ("indices", "<i4", 3)])
    vertices, faces = np.zeros(3 * len(triangles), vertex), np.zeros(len(triangles), face)
    vertices["place"], vertices["colour"] = triangles.reshape(-1, 3), np.repeat(colours, 3, axis=0)
    faces["corners"], faces["indices"] = 3, np.arange(3 * len(triangles)).reshape(-1, 3)
    lines = ["ply", "format binary_little_endian 1.0", f"element vertex {len(vertices)}"]
    lines += [f"property float {axis}" for axis in "xyz"]
    lines += [f"property uchar {colour}" for colour in ("red", "green", "blue")]
    lines += [f"element face {len(faces)}", "property list uchar int vertex_indices", "end_header", ""]
    path.write_bytes("\n".join(lines).encode() + vertices.tobytes() + faces.tobytes())


def main() -> None:
    """Write the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--points", type=int, default=2048, help="of a cloud")
    parser.add_argument("--meshes", action="store_true", help="write meshes instead of point clouds")
    parser.add_argument("--each", type=int, default=400, help="files of each class")
    parser.add_argument("--seed", type=int, default=0, help="another seed makes other solids, such as a test set")
    options = parser.parse_args()
    for label, kind in enumerate(CLASSES):
        folder = options.folder / kind
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(options.each):
            random = np.random.default_rng([options.seed, label, number])
            if options.meshes:
                write_ply(folder / f"{number:05d}.ply", *coloured(kind, random))
            else:
                np.save(folder / f"{number:05d}.npy", cloud(kind, options.points, random))
    print(
        f"{options.folder}: {options.each} {'meshes' if options.meshes else 'clouds'} of each of {', '.join(CLASSES)}"
    )


if __name__ == "__main__":
    main()
