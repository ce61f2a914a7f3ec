"""Photographs for super-resolution and restoration: tiles of 26 pictures from three packages of Debian 12.

The packages are fetched and read, not installed. Every photograph is halved first, which removes the traces of its
own compression; tiles of 128 pixels with little contrast are left out. The split `test` consists of whole photographs.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from PIL import Image

from data_pipelines.codec import Pixels
from data_pipelines.pictures import open_picture
from data_pipelines.prepare.arrays import from_arrays
from data_pipelines.prepare.debian import POOL, files_of
from data_pipelines.prepare.fetch import Archive
from data_pipelines.source import Source, SpanReader

CACHE = Path("~/.cache/bigtrain/photos")
LICENCE = "CC BY 4.0, CC BY-SA 3.0 and 4.0, CC0, GPL-2+: a licence each photograph, see the packages' copyright files"

SIDE = 128
_LEAST_CONTRAST = 8.0
"""Standard deviation of brightness in levels; tiles below it show sky or blur."""

_TEST = 5
"""Every fifth photograph is of the split `test`."""


class Package(NamedTuple):
    """A package of Debian.

    Attributes:
        archive: its file.
        folder: in it, that the photographs lie in.
        others: the files of the folder that are no photographs.
    """

    archive: Archive
    folder: str
    others: tuple[str, ...] = ()


PACKAGES = (
    Package(
        Archive(
            f"{POOL}/l/lomiri-wallpapers/lomiri-wallpapers-16.04_20.04.0-2_all.deb",
            "a99ff6a3bfe451e4cc0682ecb3cc82e71740626d59e4845ae34a0a0e45421eab",
        ),
        "usr/share/backgrounds",
        ("analogpattern_by_Peter_Nerlich.jpg", "umang_by_Abhishek_Mudgal.jpg"),
    ),
    Package(
        Archive(
            f"{POOL}/l/lomiri-wallpapers/lomiri-wallpapers-20.04_20.04.0-2_all.deb",
            "d44e89b8473aafe64a5b678f014862dc31335aaaf18665c544d985d854f1a709",
        ),
        "usr/share/backgrounds",
        ("Fossa_by_Jasper_Roks.jpg", "Infinite-Sea_by_Aury88.jpg", "Painting-Colors_by__herobrine7gamer.jpg"),
    ),
    Package(
        Archive(
            f"{POOL}/m/mate-backgrounds/mate-backgrounds_1.26.0-1_all.deb",
            "7bf4c2209f34b4f61ba6d24c8b58c28b361e82e4b943aae6d42c030169af9e04",
        ),
        "usr/share/backgrounds/mate/nature",
    ),
)


def photos(split: str = "all", *, packages: Sequence[Package] = PACKAGES, cache: Path = CACHE) -> Source:
    """Tiles of photographs, RGB, 128x128, unlabelled."""
    tiles = []
    for number, photo in enumerate(_photographs(packages, cache)):
        if split == "all" or (split == "test") == (number % _TEST == 0):
            tiles += list(_tiles(photo))
    origin = ", ".join(package.archive.name for package in packages)
    return from_arrays("photos", np.stack(tiles), licence=LICENCE, origin=f"Debian 12: {origin}")


def _photographs(packages: Sequence[Package], cache: Path) -> Iterator[Pixels]:
    """Yield the photographs of the packages, halved, uint8, [3, H, W]."""
    for package in packages:
        for name, content in sorted(_files(package, cache).items()):
            if name not in package.others:
                with open_picture(content) as photo:
                    half = photo.convert("RGB").resize((photo.width // 2, photo.height // 2), Image.Resampling.BOX)
                    yield np.asarray(half).transpose(2, 0, 1)


def _tiles(photo: Pixels) -> Iterator[Pixels]:
    """Yield the tiles of a photograph that have contrast, row by row."""
    _, height, width = photo.shape
    for top in range(0, height - SIDE + 1, SIDE):
        for left in range(0, width - SIDE + 1, SIDE):
            tile = photo[:, top : top + SIDE, left : left + SIDE]
            if tile.mean(0).std() > _LEAST_CONTRAST:
                yield tile


def _files(package: Package, cache: Path) -> dict[str, bytes]:
    """Return the JPEGs that lie in the folder of a package, by name."""
    return {
        PurePosixPath(path).name: SpanReader().read(span)
        for path, span in files_of(package.archive, cache).items()
        if PurePosixPath(path).parent == PurePosixPath(package.folder) and path.endswith(".jpg")
    }
