"""Links in archives: what they lead to, wherever in the archive that is."""

import posixpath
from collections.abc import Iterator, Mapping
from typing import TypeVar

from data_pipelines.prepare.names import in_common_form, with_common_letters

T = TypeVar("T")


def resolved(
    links: Mapping[str, str], places: Mapping[str, T], *, absolute: frozenset[str] = frozenset()
) -> Iterator[tuple[str, str, list[tuple[str, T]]]]:
    """Iterate over links: name, target, and what is found there.

    Args:
        links: target by name; names are in the common form, targets as they stand in the archive.
        places: of the archive's files by name.
        absolute: names of links whose targets count from the archive's root (hard links), not from their folder.

    Yields:
        The link's name, its target, and what it shows: one file under its own name; of a link to a folder, all files
        of that folder; nothing if it leads out of the archive, to nothing or in a circle.
    """
    ends = {name: _end_of(name, links, absolute) for name in links}
    everything = dict(places) | {name: places[end] for name, end in ends.items() if end is not None and end in places}
    below = _by_folder(everything) if any(end not in places for end in ends.values()) else {}
    for name, end in ends.items():
        if end is not None and end in places:
            yield name, links[name], [(name, places[end])]
        else:
            inside = [] if end is None else below.get(end, [])
            yield name, links[name], [(name + other[len(end or "") :], everything[other]) for other in inside]


def _end_of(name: str, links: Mapping[str, str], absolute: frozenset[str]) -> str | None:
    """Follow links from one to the next; None if they lead outside or in a circle."""
    seen = set()
    while name in links:
        target = with_common_letters(links[name])
        if name in seen or (name not in absolute and target.startswith("/")):
            return None
        seen.add(name)
        name = posixpath.normpath(posixpath.join("" if name in absolute else posixpath.dirname(name), target))
        if name.startswith(".."):
            return None
        name = in_common_form(name)
    return name


def _by_folder(places: Mapping[str, T]) -> dict[str, list[str]]:
    """Return the names of the files below each folder."""
    found: dict[str, list[str]] = {}
    for name in places:
        folder = name
        while "/" in folder:
            folder = folder.rpartition("/")[0]
            found.setdefault(folder, []).append(name)
    return found
