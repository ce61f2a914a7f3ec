"""Spoken syllables of Mandarin by tone: Debian's package `gcin-voice`, which is read and not installed.

Two speakers say each syllable. The split `test` consists of syllables that the split `train` has in no tone and by no
speaker.
"""

import zlib
from pathlib import Path, PurePosixPath

from data_pipelines.errors import DataError
from data_pipelines.prepare.debian import POOL, files_of
from data_pipelines.prepare.fetch import Archive
from data_pipelines.prepare.sound_form import SoundForm
from data_pipelines.prepare.sounds import as_sounds
from data_pipelines.source import Item, Source, SpanReader

CACHE = Path("~/.cache/bigtrain/syllables")
LICENCE = "CC BY 3.0 (speaker 5), GPL-3 or LGPL-3 (speaker 3)"
PACKAGE = Archive(
    f"{POOL}/g/gcin-voice/gcin-voice_0~20170223-3_all.deb",
    "6a0353f0294d06f7bd901bada3d5d9eec63b66c2ec029f92da3124d93d45de70",
)
TONES = ("first", "second", "third", "fourth")

_FOLDER = PurePosixPath("usr/share/gcin-voice/ogg")
_TEST = 10
"""One syllable in so many is of the split `test`."""


def syllables(
    split: str = "all", form: SoundForm | None = None, *, package: Archive = PACKAGE, cache: Path = CACHE
) -> Source:
    """Spoken syllables with the tone as the class, in the form that is asked for.

    Raises:
        DataError: the package cannot be fetched, or is another.
    """
    items = []
    for path, span in sorted(files_of(package, cache).items()):
        place = PurePosixPath(path)
        if place.parent.parent != _FOLDER or place.suffix != ".ogg":
            continue
        syllable, tone = _parts(place.parent.name)
        if split == "all" or (split == "test") == (zlib.crc32(syllable.encode()) % _TEST == 0):
            items.append(Item(str(place.relative_to(_FOLDER)), span, tone))
    if not items:
        raise DataError(f"{package.name}: contains no syllables below {_FOLDER}")
    source = Source(
        name="syllables",
        items=items,
        reader=SpanReader(),
        classes=TONES,
        licence=LICENCE,
        origin=f"Debian 12: {package.name}",
        stamp=package.sha256,
    )
    return as_sounds(source, form or SoundForm())


def _parts(name: str) -> tuple[str, int]:
    """Return a syllable and the index of its tone, which is the last character; the first tone is often left out."""
    return (name[:-1], int(name[-1]) - 1) if name[-1:] in ("1", "2", "3", "4") else (name, 0)
