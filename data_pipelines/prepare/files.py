"""Image files in a folder or a zip: a class is a sub-folder, or a file beside them tells the classes."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from data_pipelines.errors import DataError
from data_pipelines.fields.spec import FieldSpec
from data_pipelines.prepare.captions import TEXT, caption_field
from data_pipelines.prepare.described import Description, described
from data_pipelines.prepare.layout import Layout, UnclearLabelsError, has_class_folders, layout_of
from data_pipelines.prepare.listing import Listing
from data_pipelines.prepare.names import first_of, stem_of
from data_pipelines.prepare.place import NO_LABELS, Place
from data_pipelines.source import Item, Lost, Source, Where

BESIDE = {".json": "json", ".txt": TEXT}
"""Extensions of files beside an image, of the same name, that are kept with it: a member, and the field of captions."""


def from_files(place: Place) -> Source:
    """Return the images of a folder or a zip, with their classes.

    Raises:
        DataError: no images, no such part, or it is unclear what their classes are.
    """
    return source_of(place, _images(place))


def source_of(place: Place, names: list[str]) -> Source:
    """Return some files of a folder or a zip as samples, with the classes and the captions that images would have.

    Args:
        place: where they are.
        names: of the files; there is at least one.

    Raises:
        DataError: no such part, or it is unclear what their classes are.
    """
    if place.label == NO_LABELS:
        layout = layout_of(names, str(place.path), place.split, labelled=False)
        return _source(place, layout.names, {}, (), None, layout)
    layout = layout_of(names, str(place.path), place.split, labelled=False)
    description = described(place, layout.names, has_class_folders(names, place.split))
    if description is not None and description.unlabelled:
        return _source(place, layout.names, {}, (), description, layout)
    if description is None or not description.labels:
        layout = layout_of(names, str(place.path), place.split, place.listing.folders)
        return _source(place, layout.names, layout.labels, layout.classes, description, layout)
    there = {*layout.names, *layout.elsewhere}
    chosen = layout.names + [name for name in sorted(description.labels) if name not in there]
    return _source(place, chosen, description.labels, description.classes, description, layout)


def images_of(place: Place) -> Source:
    """Return all images of a folder or a zip, for those who do not need their classes, such as scores.

    Classes are there where they are clear; where they are not, the images have none, and nothing is refused.

    Raises:
        DataError: it cannot be listed, or no images are in it.
    """
    try:
        return from_files(place)
    except UnclearLabelsError:
        names = _images(place)
        return _source(place, names, {}, (), None, layout_of(names, str(place.path), labelled=False))


def _images(place: Place) -> list[str]:
    names = place.listing.images()
    if names:
        return names
    aside = place.listing.left_aside
    others = (
        [f"{len(place.listing.files)} other files ({first_of(place.listing.files)})"] if place.listing.files else []
    )
    words = "; ".join([*others, *([aside.words] if aside.total else [])])
    raise DataError(f"{place.path}: no images in it" + (f"; it has {words}" if words else ""))


def _source(
    place: Place,
    names: list[str],
    labels: Mapping[str, int],
    classes: tuple[str, ...],
    description: Description | None,
    layout: Layout,
) -> Source:
    listing, about = place.listing, description or Description()
    found = _items_of(names, listing, labels, about)
    aside = listing.others(found.used | about.used | set(layout.elsewhere))
    for name in layout.elsewhere:
        aside.add("in other parts", name)
    stats = {name: stat for name, stat in listing.stats.items() if name in found.used}
    return Source(
        name=place.path.stem,
        items=found.items,
        reader=listing.reader,
        classes=classes,
        licence="not stated",
        origin=str(place.path),
        fields=found.fields,
        members=found.members,
        stamp=stamp_of(stats),
        left_aside=aside,
        notes=(*listing.notes, *about.notes, *layout.notes),
    )


def stamp_of(stats: Mapping[str, str]) -> str:
    """Hash what changes with files: the text of the sorted list, piece by piece, for it may be of gigabytes."""
    digest = hashlib.sha256(b"[")
    for number, name in enumerate(sorted(stats)):
        entry = f"{', ' if number else ''}{(name, stats[name])!r}"
        digest.update(entry.encode("utf-8", "surrogateescape"))
    digest.update(b"]")
    return digest.hexdigest()


@dataclass(frozen=True)
class _Found:
    """Samples of images with the files that describe them.

    Attributes:
        items: a sample an image.
        fields: that the items have besides the image.
        members: further ones that they have.
        used: names of all files that are part of a sample.
    """

    items: list[Item]
    fields: dict[str, FieldSpec]
    members: tuple[str, ...]
    used: set[str]


def _items_of(names: Sequence[str], listing: Listing, labels: Mapping[str, int], about: Description) -> _Found:
    items, used, captions = [], set(names), []
    for name in names:
        stem, file = stem_of(name), listing.files.get(name)
        beside: dict[str, Where | bytes] = {}
        for suffix, kept in BESIDE.items():
            other = listing.files.get(stem + suffix)
            if other is not None and other.name not in about.used:
                beside[kept] = other.where
                used.add(other.name)
                captions += [max(other.size, 0)] if kept == TEXT else []
        if text := about.captions.get(name):
            beside[TEXT] = text
            captions.append(len(text))
        where = file.where if file else Lost(str(listing.path), "missing", "listed, and not there")
        label = labels.get(name, -1)
        items.append(Item(name, where, label, beside) if beside else Item(name, where, label))
    members = tuple(sorted({name for item in items for name in item.fields} - {TEXT}))
    return _Found(items, caption_field(captions), members, used)
