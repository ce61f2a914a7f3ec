"""Emoji in several styles: pairs of a line drawing and its colours, and two domains that show the same concepts.

OpenMoji 17.0.0 (lines and colour, SVG, CC BY-SA 4.0) and Fluent 3D 1.1.0 (pictures of 256x256, MIT), from the npm
registry. Flags, components and skin tones are left out. A tenth of the groups of meanings is the split `test`, so that
near twins (man and woman, hearts of all colours) do not lie on both sides.
"""

import hashlib
import json
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from data_pipelines.errors import DataError
from data_pipelines.prepare.fetch import Archive
from data_pipelines.prepare.pairs import INPUT, TARGET
from data_pipelines.protocol import ImageProtocol, Rejected
from data_pipelines.source import Item, Row, Source

CACHE = Path("~/.cache/bigtrain/emoji")
USUAL = ImageProtocol(64, 64, 3)
OPENMOJI_LICENCE = "CC BY-SA 4.0, OpenMoji 17.0.0, openmoji.org"
FLUENT_LICENCE = "MIT, Fluent Emoji by Microsoft, @lobehub/fluent-emoji-3d 1.1.0"

_RENDERED = 128
"""Pixels that drawings are rendered at, before the protocol makes the set's size of them."""


OPENMOJI = Archive(
    "https://registry.npmjs.org/openmoji/-/openmoji-17.0.0.tgz",
    "55ee7d13485dec86e9f38c1f3a645a13382d33ff97c0cd845ee824b0aef45e68",
)
FLUENT = Archive(
    "https://registry.npmjs.org/@lobehub/fluent-emoji-3d/-/fluent-emoji-3d-1.1.0.tgz",
    "c1bb7eee7de090205a232518a9ab4adb3df458bfbe8a1f78232991194c8b2e58",
)


class Concept(NamedTuple):
    """What an emoji shows.

    Attributes:
        code: its code points, as OpenMoji's files are called.
        group: of meanings, `face-concerned` for example.
        caption: in words.
    """

    code: str
    group: str
    caption: str

    @property
    def key(self) -> str:
        """The code points as both packages can have them: lower case, without variation selectors."""
        return "-".join(point for point in self.code.lower().split("-") if point != "fe0f")

    @property
    def part(self) -> int:
        """A number from 0 to 9, the same for a whole group of meanings; 0 is the split `test`."""
        return int(hashlib.sha1(self.group.encode(), usedforsecurity=False).hexdigest(), 16) % 10


@dataclass(frozen=True)
class DrawingReader:
    """Drawings of OpenMoji, found by their folder, `black` or `color`, in a row of an archive's emoji.

    Attributes:
        archive: the package's.
        codes: of the emoji.
        distinct: whether to reject an emoji whose colour drawing is its line drawing.
    """

    archive: Path
    codes: tuple[str, ...]
    distinct: bool

    def read(self, where: Row) -> bytes:
        """Return a drawing as a PNG, on white."""
        code = self.codes[where.number]
        drawing = _render(self._drawings[f"package/{where.array}/svg/{code}.svg"])
        if (
            self.distinct
            and where.array == "color"
            and drawing == _render(self._drawings[f"package/black/svg/{code}.svg"])
        ):
            raise Rejected("same", "the colour drawing is the line drawing")
        return drawing

    @cached_property
    def _drawings(self) -> dict[str, bytes]:
        return read_members(self.archive, ".svg")

    def __getstate__(self) -> dict[str, Any]:
        """Leave the drawings behind."""
        return {"archive": self.archive, "codes": self.codes, "distinct": self.distinct}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Read the archive anew when a drawing is first asked for."""
        self.__dict__.update(state)


@dataclass(frozen=True)
class PictureReader:
    """Pictures of an archive, found by their name in it."""

    archive: Path

    def read(self, where: str) -> bytes:
        """Return a picture's file."""
        return self._pictures[where]

    @cached_property
    def _pictures(self) -> dict[str, bytes]:
        return read_members(self.archive, ".webp")

    def __getstate__(self) -> dict[str, Any]:
        """Leave the pictures behind."""
        return {"archive": self.archive}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Read the archive anew when a picture is first asked for."""
        self.__dict__.update(state)


def lines(split: str = "all", *, cache: Path = CACHE) -> Source:
    """Pairs of OpenMoji: the line drawing is the input, the colour drawing the target; 2,186, about 130 rejected."""
    archive = OPENMOJI.fetched(cache)
    concepts = [one for one in _concepts(archive) if split == "all" or (split == "test") == (one.part == 0)]
    items = [
        Item(f"{one.code} {one.caption}", Row("black", number), -1, {TARGET: Row("color", number)})
        for number, one in enumerate(concepts)
    ]
    reader = DrawingReader(archive, tuple(one.code for one in concepts), distinct=True)
    return Source(
        name="emoji-lines",
        items=items,
        reader=reader,
        classes=(),
        licence=OPENMOJI_LICENCE,
        origin=OPENMOJI.url,
        images=(INPUT, TARGET),
        usual=USUAL,
        stamp=OPENMOJI.sha256,
    )


def flat(split: str = "all", *, cache: Path = CACHE) -> Source:
    """Colour drawings of OpenMoji: the first of two domains without pairs; the other is `solid`.

    The split `train` has other concepts than that of `solid`; the split `test` has the same ones in the same order.
    """
    archive = OPENMOJI.fetched(cache)
    concepts = [one for one, _ in _of_both(cache, split, odd=False)]
    return Source(
        name="emoji-2d",
        items=[Item(f"{one.code} {one.caption}", Row("color", number)) for number, one in enumerate(concepts)],
        reader=DrawingReader(archive, tuple(one.code for one in concepts), distinct=False),
        classes=(),
        licence=OPENMOJI_LICENCE,
        origin=OPENMOJI.url,
        usual=USUAL,
        stamp=OPENMOJI.sha256,
    )


def solid(split: str = "all", *, cache: Path = CACHE) -> Source:
    """Pictures of Fluent 3D: the second of two domains without pairs; see `flat`, the first, for the splits."""
    archive = FLUENT.fetched(cache)
    return Source(
        name="emoji-3d",
        items=[Item(f"{one.code} {one.caption}", name) for one, name in _of_both(cache, split, odd=True)],
        reader=PictureReader(archive),
        classes=(),
        licence=FLUENT_LICENCE,
        origin=FLUENT.url,
        usual=USUAL,
        stamp=FLUENT.sha256,
    )


def _of_both(cache: Path, split: str, *, odd: bool) -> list[tuple[Concept, str]]:
    """Return the concepts that both packages show, and the name of Fluent's picture of each.

    Args:
        cache: for the archives.
        split: `train`: of the concepts that are not `test`, every second one.
        odd: which of these.
    """
    pictures = _names_by_key(read_members(FLUENT.fetched(cache), ".webp"))
    both = [(one, pictures[one.key]) for one in _concepts(OPENMOJI.fetched(cache)) if one.key in pictures]
    if split == "train":
        return [pair for pair in both if pair[0].part != 0][odd::2]
    return [pair for pair in both if split == "all" or pair[0].part == 0]


def _concepts(archive: Path) -> list[Concept]:
    """Return OpenMoji's emoji but flags, components and skin tones, in the order of their code points."""
    (document,) = read_members(archive, "/openmoji.json").values()
    concepts = [
        Concept(entry["hexcode"], entry["subgroups"], entry["annotation"])
        for entry in json.loads(document)
        if not entry["skintone"] and entry["group"] not in ("flags", "component")
    ]
    return sorted(concepts)


def _names_by_key(pictures: Iterable[str]) -> Mapping[str, str]:
    """Return Fluent's file names by code points; where there are two of one emoji, the last one of the alphabet."""
    return {Concept(PurePosixPath(name).stem, "", "").key: name for name in sorted(pictures)}


def read_members(archive: Path, suffix: str) -> dict[str, bytes]:
    """Return the content of an archive's files whose names end so, by their names."""
    contents = {}
    with tarfile.open(archive) as tar:
        for member in tar:
            file = tar.extractfile(member) if member.isfile() and member.name.endswith(suffix) else None
            if file is not None:
                contents[member.name] = file.read()
    return contents


def _render(drawing: bytes) -> bytes:
    """Return the PNG of an SVG drawing on white.

    Raises:
        DataError: `resvg-py` is not installed.
    """
    try:
        import resvg_py
    except ImportError:
        raise DataError("drawings (SVG) need resvg-py: pip install 'bigtrain[svg]'") from None
    picture = resvg_py.svg_to_bytes(
        svg_string=drawing.decode(),
        width=_RENDERED,
        height=_RENDERED,
        background="#ffffff",
        skip_system_fonts=True,
        dpi=96,
    )
    return bytes(picture)
