"""Sounds of drums by instrument: the kits of Debian's package `hydrogen-drumkits`, which is read and not installed.

A kit's `drumkit.xml` names the files of each instrument; those whose name tells one of five instruments are taken. The
split `test` consists of whole kits, because a kit has the same drum in several loudnesses.
"""

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from data_pipelines.errors import DataError
from data_pipelines.prepare.debian import POOL, files_of
from data_pipelines.prepare.fetch import Archive
from data_pipelines.prepare.sound_form import SoundForm
from data_pipelines.prepare.sounds import as_sounds
from data_pipelines.source import Item, Source, Span, SpanReader

CACHE = Path("~/.cache/bigtrain/drums")
LICENCE = "a licence each kit: CC0, CC BY, CC BY-SA, GPL-2; see the package's copyright file"
PACKAGE = Archive(
    f"{POOL}/h/hydrogen-drumkits/hydrogen-drumkits_2017.09.19~dfsg-1_all.deb",
    "6ea3c6df9a67762e2362f946c695e619859126b19fbccf32a2e8f07dfd03b2f4",
)

INSTRUMENTS = {
    "cymbal": r"crash|\bride\b|cymbal|splash|china",
    "hi-hat": r"\bhat\b|hi-hat|\bo?hh\b",
    "kick": r"kick|bass ?drum",
    "snare": r"snare",
    "tom": r"\btom",
}
"""Class -> what names of its instruments have in them; the last one that fits counts."""

_FOLDER = PurePosixPath("usr/share/hydrogen/data/drumkits")
_TEST = ("BJA_Pacific", "HardElectro1", "VariBreaks")


class Drum(NamedTuple):
    """A recording of a drum: its kit, the path in the package, and its class."""

    kit: str
    path: str
    instrument: str


def drums(
    split: str = "all", form: SoundForm | None = None, *, package: Archive = PACKAGE, cache: Path = CACHE
) -> Source:
    """Sounds of five kinds of drums, in the form that is asked for.

    Raises:
        DataError: the package cannot be fetched, or is another.
    """
    files = files_of(package, cache)
    classes = tuple(INSTRUMENTS)
    found = {drum.path: drum for drum in _drums(files) if split == "all" or (split == "test") == (drum.kit in _TEST)}
    missing = [path for path in found if path not in files]
    if len(missing) == len(found):
        raise DataError(f"{package.name}: contains no drums below {_FOLDER}")
    notes = (f"{len(missing)} files that kits name are missing (the first: {missing[0]})",) if missing else ()
    source = Source(
        name="drums",
        items=[
            Item(str(PurePosixPath(path).relative_to(_FOLDER)), files[path], classes.index(drum.instrument))
            for path, drum in found.items()
            if path in files
        ],
        reader=SpanReader(),
        classes=classes,
        licence=LICENCE,
        origin=f"Debian 12: {package.name}",
        stamp=package.sha256,
        notes=notes,
    )
    return as_sounds(source, form or SoundForm())


def instrument_of(name: str) -> str | None:
    """Return the class that an instrument's name tells; None if none of ours."""
    fitting = [known for known, words in INSTRUMENTS.items() if re.search(words, name.lower())]
    return fitting[-1] if fitting else None


def _drums(files: Mapping[str, Span]) -> Iterator[Drum]:
    """Yield the recordings that the kits name, kit by kit."""
    for path in sorted(files):
        if PurePosixPath(path).name == "drumkit.xml" and PurePosixPath(path).parent.parent == _FOLDER:
            kit = PurePosixPath(path).parent
            for instrument in _named(_without_namespaces(SpanReader().read(files[path])), "instrument"):
                name = next((one.text or "" for one in _named(instrument, "name")), "")
                if known := instrument_of(name):
                    for file in _named(instrument, "filename"):
                        yield Drum(kit.name, str(kit / (file.text or "")), known)


def _without_namespaces(content: bytes) -> ET.Element:
    root = ET.fromstring(content)  # noqa: S314 - the package's checksum is known
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return root


def _named(element: ET.Element, tag: str) -> Iterator[ET.Element]:
    return element.iter(tag)
