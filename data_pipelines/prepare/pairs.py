"""Pairs of images: an input and its target, in two folders, or side by side in one file."""

import io
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import ImageOps

from data_pipelines.errors import DataError
from data_pipelines.pictures import ImageFileError, open_picture
from data_pipelines.prepare.files import stamp_of
from data_pipelines.prepare.listing import Listing, list_folder
from data_pipelines.prepare.names import stem_of
from data_pipelines.protocol import Rejected
from data_pipelines.source import FileReader, Half, Item, LeftAside, Source

INPUT, TARGET = "input", "target"
SEPARATOR = ","


@dataclass(frozen=True)
class HalfReader:
    """Halves of image files, found by the file's path relative to a folder."""

    folder: Path

    def read(self, where: Half) -> bytes:
        """Return a half as a PNG, which stands upright and keeps the file's mode."""
        content = FileReader(self.folder).read(where.name)
        try:
            with open_picture(content, passing=(Rejected,)) as picture:
                upright = ImageOps.exif_transpose(picture)
                half, odd = divmod(upright.width, 2)
                if odd or not half:
                    raise Rejected("size", f"{upright.width} pixels wide, which is not an even number")
                stream = io.BytesIO()
                upright.crop((half * where.right, 0, half * (1 + where.right), upright.height)).save(stream, "PNG")
                return stream.getvalue()
        except ImageFileError as error:
            raise Rejected("bomb" if error.reason == "bomb" else "unreadable", str(error)) from None


def from_two_folders(text: str) -> Source:
    """Return the pairs of `INPUTS,TARGETS`: two folders whose images have equal names, but for the extension.

    An image without a partner is rejected when it is read.

    Raises:
        DataError: not two folders, or no name is in both.
    """
    folders = [Path(part).expanduser() for part in text.split(SEPARATOR)]
    if len(folders) != 2 or not all(folder.is_dir() for folder in folders):
        raise DataError(f"pairs:{text}: write pairs:INPUTS,TARGETS with two existing folders")
    listings = [list_folder(folder) for folder in folders]
    inputs, targets = map(_by_stem, listings)
    if not inputs.keys() & targets.keys():
        raise DataError(f"pairs:{text}: no image of one folder has the name of one in the other")
    items = []
    for stem in sorted(inputs.keys() | targets.keys()):
        lacking = [str(folder / stem) for folder in folders]  # no such file: the item is rejected as missing
        where, partner = inputs.get(stem, lacking[0]), targets.get(stem, lacking[1])
        items.append(Item(stem, where, -1, {TARGET: partner}))
    return Source(
        name=folders[1].name,
        items=items,
        reader=FileReader(Path()),
        classes=(),
        licence="not stated",
        origin=text,
        images=(INPUT, TARGET),
        stamp=stamp_of(
            {f"{number} {name}": stat for number, one in enumerate(listings) for name, stat in one.stats.items()}
        ),
        left_aside=_together(*(listing.others(listing.images()) for listing in listings)),
    )


def from_halves(path: Path) -> Source:
    """Return the pairs of a folder of images whose left half is the input and whose right half is the target.

    Raises:
        DataError: no images in it.
    """
    listing = list_folder(path)
    names = listing.images()
    if not names:
        raise DataError(f"{path}: no images in it")
    places = [(name, str(listing.files[name].where)) for name in names]
    return Source(
        name=path.name,
        items=[Item(name, Half(where, False), -1, {TARGET: Half(where, True)}) for name, where in places],
        reader=HalfReader(path),
        classes=(),
        licence="not stated",
        origin=str(path),
        images=(INPUT, TARGET),
        stamp=stamp_of(listing.stats),
        left_aside=listing.others(names),
    )


def turned(source: Source) -> Source:
    """Return the pairs of a source the other way round: what was the target is the input.

    Raises:
        DataError: the source has no pairs, or lies in tars that are indexed in place.
    """
    if source.images != (INPUT, TARGET):
        raise DataError(f"{source.origin}: has no pairs of input and target to exchange; it has {source.first}")
    items = []
    for item in source.items:
        target = item.fields.get(TARGET)
        if target is None or isinstance(target, bytes):
            raise DataError(f"{source.origin}: {item.name} has no target, so that the direction cannot be exchanged")
        items.append(item._replace(where=target, fields={**item.fields, TARGET: item.where}))
    return replace(source, items=items)


def _by_stem(listing: Listing) -> dict[str, str]:
    """Return the paths of a folder's images by their names without the extension."""
    found: dict[str, str] = {}
    for name in listing.images():
        stem = stem_of(name)
        if stem in found:
            raise DataError(f"{listing.path}: two images have the name {stem}")
        found[stem] = str(listing.path / str(listing.files[name].where))
    return found


def _together(one: LeftAside, other: LeftAside) -> LeftAside:
    """Return what was left aside in two folders."""
    for why, names in other.first.items():
        for name in names:
            one.add(why, name)
        one.counts[why] += other.counts[why] - len(names)
    return one
