"""What folders mean: which one is the root, which are parts of the set (train, val, test), which are classes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from data_pipelines.errors import DataError
from data_pipelines.prepare.names import first_of, in_natural_order, part_named, words_of

ALL = "all"
_JUST_IMAGES = {
    "images",
    "imgs",
    "img",
    "image",
    "pictures",
    "pics",
    "photos",
    "jpegimages",
    "jpg",
    "jpeg",
    "png",
    "data",
    "audio",
    "sounds",
    "recordings",
    "clips",
    "wavs",
    "wav",
    "flac",
    "ogg",
    "meshes",
    "models",
}
"""Folders of these names, in lower case, hold images, sounds or meshes and name no class."""


_BESIDE_IMAGES = {"mask", "masks", "label", "labels", "annotations", "segmentation", "segmentations", "gt", "depth"}
"""Folders of these names, in lower case, lie beside one of images, and show the same in another way."""


class UnclearLabelsError(DataError):
    """The images are there; what their classes are is not clear."""


@dataclass(frozen=True)
class Layout:
    """The classes that folders give to files.

    Attributes:
        names: of the files in the part that was asked for, in the order given.
        labels: class indices by name; empty where the folders are no classes.
        classes: their names, those of all parts.
        elsewhere: names of the files in other parts.
        root: the folders above parts and classes, with a slash behind them; empty if there are none.
        notes: what people should know, a sentence each.
    """

    names: list[str]
    labels: dict[str, int]
    classes: tuple[str, ...]
    elsewhere: list[str]
    root: str
    notes: tuple[str, ...] = ()


def layout_of(
    names: Sequence[str], place: str, split: str = ALL, folders: Iterable[str] = (), *, labelled: bool = True
) -> Layout:
    """Find out what the folders of files mean.

    Folders that hold everything are no class, if there are further ones below them. Where all folders at the top are
    called train, val or test (or likewise), they are parts, and the classes lie below. Else the first folder of each
    file is its class; files that all lie in one place have none.

    Args:
        names: of the files, in the common form.
        place: where they are, for messages.
        split: the part that is asked for, or `all`.
        folders: names of all folders, so that those without a file can be told.
        labelled: whether classes are wanted; else only parts are looked for, and nothing is unclear.

    Raises:
        DataError: there is no such part.
        UnclearLabelsError: some files lie in folders, some beside them.
    """
    ways = _ways_of(names)
    root, ways = _stripped(ways)
    part_of, ways, notes = _parts(ways, place, split, labelled)
    if part_of:
        _, ways = _stripped(ways)
    if split != ALL and not part_of:
        part_of = _parts_within_classes(ways)
    chosen = list(names) if split == ALL else [name for name in names if part_of.get(name) == split]
    if not chosen:
        have = sorted(set(part_of.values()))
        words = f"it has {', '.join(have)}" if have else "hold samples out with --test"
        raise DataError(f"{place}: has no split '{split}' of its own; {words}")
    loose = [name for name in chosen if not ways[name]]
    taken = set(chosen)
    elsewhere = [name for name in names if name not in taken]
    if len(loose) == len(chosen) or not labelled:
        return Layout(chosen, {}, (), elsewhere, root, notes)
    if loose:
        ask = "choose one with --split" if part_of and split == ALL else "move them into one"
        raise UnclearLabelsError(
            f"{place}: {len(loose)} images are beside the class folders (the first: {loose[0]}); {ask}"
        )
    tops = {way[0] for way in ways.values() if way}
    if len(tops) == 1 and next(iter(tops)).lower() in _JUST_IMAGES:
        return Layout(chosen, {}, (), elsewhere, root, notes)
    classes = in_natural_order(tops)
    index = {name: number for number, name in enumerate(classes)}
    labels = {name: index[ways[name][0]] for name in chosen}
    if alike := sorted(name for name in classes if name.lower() in {other.lower() for other in tops - {name}}):
        notes = (*notes, f"classes differ only in upper and lower case ({first_of(alike)})")
    if odd := [name for name in classes if name.lower() in _JUST_IMAGES | _BESIDE_IMAGES]:
        notes = (
            *notes,
            f"the folders {first_of(odd)} are used as classes; if they are not, prepare one of them alone, or "
            "pairs:INPUTS,TARGETS",
        )
    empty = _without_files(folders, root, classes, bool(part_of))
    if empty:
        notes = (
            *notes,
            f"{len(empty)} folders beside the classes contain no images, and are not used as classes "
            f"({first_of(empty)})",
        )
    return Layout(chosen, labels, classes, elsewhere, root, notes)


def has_class_folders(names: Sequence[str], split: str = ALL) -> bool:
    """Tell whether folders give classes to files, or seem to give them to some."""
    try:
        return bool(layout_of(names, "", split).labels)
    except UnclearLabelsError:
        return True


_Ways = dict[str, tuple[str, ...]]
"""The folders of each file, from the top down; files of one folder share the tuple."""


def _ways_of(names: Iterable[str]) -> _Ways:
    known: dict[str, tuple[str, ...]] = {}
    ways = {}
    for name in names:
        folder = name.rpartition("/")[0]
        if folder not in known:
            known[folder] = tuple(folder.split("/")) if folder else ()
        ways[name] = known[folder]
    return ways


def _stripped(ways: _Ways) -> tuple[str, _Ways]:
    """Take away the folders that hold everything, and hold further folders only."""
    root = ""
    while ways:
        tops = {way[0] if len(way) > 1 else None for way in ways.values()}
        (top,) = tops if len(tops) == 1 else (None,)
        if top is None or part_named(top):
            break
        root += f"{top}/"
        below = {way: way[1:] for way in set(ways.values())}
        ways = {name: below[way] for name, way in ways.items()}
    return root, ways


def _parts(ways: _Ways, place: str, split: str, labelled: bool) -> tuple[dict[str, str], _Ways, tuple[str, ...]]:
    """Return the part of each file by the folders at the top, the folders below these, and what to tell."""
    tops = {way[0] if way else "" for way in ways.values()}
    common = frozenset.intersection(*(frozenset(words_of(top)) for top in tops)) if len(tops) > 1 else frozenset()
    found = {top: part for top in tops if (part := part_named(top, common))}
    others = sorted(tops - found.keys())
    if not found or (others and len(set(found.values())) < 2):
        return {}, ways, ()
    if others and split == ALL and labelled:
        where = f"images beside them (the first: {_first_beside(ways)})" if others == [""] else first_of(others)
        raise UnclearLabelsError(
            f"{place}: {first_of(sorted(found))} look like splits of a dataset, but there are {where}; choose one with "
            "--split, or move the others elsewhere"
        )
    part_of = {name: found[way[0]] for name, way in ways.items() if way and way[0] in found}
    below = {name: way[1:] if name in part_of else () for name, way in ways.items()}
    notes: tuple[str, ...] = ()
    if split == ALL and len(found) > 1:
        counts = ", ".join(f"{part} {list(part_of.values()).count(part)}" for part in sorted(set(found.values())))
        notes = (f"its splits were combined ({counts}); --split selects one",)
    if others:
        below = {name: way for name, way in below.items() if name in part_of}
        below |= dict.fromkeys(ways.keys() - below.keys(), ())
    return part_of, below, notes


def _first_beside(ways: _Ways) -> str:
    return next(name for name, way in ways.items() if not way)


def _parts_within_classes(ways: _Ways) -> dict[str, str]:
    """Return the part of each file where each class has folders of parts; nothing where that is not so."""
    parts = {name: part_named(way[1]) if len(way) > 1 else None for name, way in ways.items()}
    return {name: part for name, part in parts.items() if part} if all(parts.values()) else {}


def _without_files(folders: Iterable[str], root: str, classes: tuple[str, ...], parts: bool) -> list[str]:
    """Return the folders beside the classes that are none."""
    known = set(classes)
    depth = root.count("/") + parts
    beside = set()
    for folder in folders:
        words = folder.split("/")
        fits = len(words) == depth + 1 and folder.startswith(root) and (not parts or part_named(words[depth - 1]))
        if fits and words[-1] not in known:
            beside.add(words[-1])
    return sorted(beside)
