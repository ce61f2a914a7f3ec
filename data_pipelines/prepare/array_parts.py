"""Arrays of one file whose names tell the part of the set that they hold: `train_images`, `x_test`, `train/labels`."""

import re
from collections import Counter
from collections.abc import Collection, Iterable

from data_pipelines.errors import DataError
from data_pipelines.prepare.layout import ALL
from data_pipelines.prepare.names import PART_OF
from data_pipelines.prepare.place import Place


def names_of_part(place: Place, arrays: Iterable[str], known: Collection[str]) -> dict[str, str]:
    """Return the names by which the arrays of a part are known (`images` for `train_images`) -> those that they have.

    Args:
        place: which part is asked for.
        arrays: names of all arrays, with `/` between groups.
        known: names that mean something without a part.

    Raises:
        DataError: no such part; or several, none is asked for, and no array has a known name by itself.
    """
    own = {name: name for name in arrays}
    ends = Counter(name.rpartition("/")[2] for name in own)
    own |= {end: name for name in list(own) if ends[end := name.rpartition("/")[2]] == 1}  # the only group's
    parts = _parts(own.values(), known)
    if place.split != ALL:
        if place.split not in parts:
            if not parts:
                place.without_splits()
            has = ", ".join(sorted(parts))
            raise DataError(f"{place.path}: has no split '{place.split}' of its own; it has {has}")
        taken = parts[place.split]
        return taken | {called: name for called, name in own.items() if name not in taken.values()}
    if len(parts) > 1 and not set(known) & own.keys():
        raise DataError(f"{place.path}: contains {', '.join(sorted(parts))}; choose a split with --split")
    return own | (next(iter(parts.values())) if len(parts) == 1 else {})


def _parts(arrays: Iterable[str], known: Collection[str]) -> dict[str, dict[str, str]]:
    """Return what each part has, by the known names."""
    parts: dict[str, dict[str, str]] = {}
    for name in arrays:
        words = re.split("[/_]", name.lower())
        for part, rest in ((words[0], words[1:]), (words[-1], words[:-1])):
            called = "_".join(rest)
            if part in PART_OF and called in known:
                parts.setdefault(PART_OF[part], {})[called] = name
    return parts
