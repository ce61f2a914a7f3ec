"""WebDataset tars that others made, and ImageNet's tar of tars: found by their headers, not unpacked."""

import json
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from data_pipelines.content import HEAD, image_format
from data_pipelines.errors import DataError
from data_pipelines.manifest import IMAGE
from data_pipelines.member_names import field_of, kind_of_member
from data_pipelines.prepare.files import stamp_of
from data_pipelines.prepare.labels import as_classes, distinct_names
from data_pipelines.prepare.layout import ALL, UnclearLabelsError, layout_of
from data_pipelines.prepare.members import MemberFields, fields_of
from data_pipelines.prepare.names import first_of, may_be_image, part_of_file, stem_of, suffix_of
from data_pipelines.prepare.place import NO_LABELS, Place
from data_pipelines.prepare.samples import Sample, have_dotted_names, samples_of
from data_pipelines.prepare.tar_members import Member, OpenTar, is_tar_name, members_of, open_tar
from data_pipelines.source import Item, LeftAside, Lost, Source, Span, SpanReader

_JSON_LABELS = ("label", "cls", "class")
_DOCUMENTS = (".md", ".rst", ".html", ".htm", ".pdf", ".tar", ".zip", ".gz", ".log", ".sh", ".py", ".ipynb")
_ENDINGS = {"JPEG": "jpg", "PNG": "png", "WebP": "webp", "GIF": "gif", "TIFF": "tif", "BMP": "bmp", "AVIF": "avif"}
IMAGENET = "ILSVRC2012_img_train.tar"


def from_webdataset(place: Place) -> Source:
    """Return the samples of a tar, or of all tars below a folder, in the order of their names.

    A sample is what members of one name (up to the first dot) make: an image, its class in `.cls` or in `.json` under
    `label`, `cls` or `class`, a caption in `.txt`, the field `text`, and whatever else there is, kept as members.
    Where there is no plain image, members such as `.input.png` and `.target.png`, `.npy`, `.latent.npy` or `.wav` are
    the fields, called as the extension begins; their samples must be alike. Images without any class in folders have
    the folder for a class, as the same files in a folder do. Compressed tars are unpacked into a file without a name.

    Raises:
        DataError: no tars, no fields in them, no such part, or only some have a class.
    """
    aside = LeftAside()
    tars, notes = _tars(place, aside)
    opened = [open_tar(tar.resolve(), place) for tar in tars]
    members = [members_of(tar, aside, encoding=place.encoding) for tar in opened]
    members = [_data_only(tar, some, aside) for tar, some in zip(opened, members, strict=True)]
    if not any(isinstance(member.where, Span) for some in members for member in some) and not aside.total:
        raise DataError(f"{place.path}: contains no complete tar; {_why_none(members)}")
    reader = _reader(opened)
    dotted = have_dotted_names([member.name for some in members for member in some])
    samples, labels = [], []
    for tar, some in zip(opened, members, strict=True):
        for sample in samples_of(some, whole_stems=dotted):
            samples.append((Path(tar.path).name, sample))
            labels.append(_label(sample.parts, tar, place))
    fields = fields_of([sample.parts for _, sample in samples], str(place.path), reader)
    if all(label is None for label in labels) and fields.images == (IMAGE,):
        samples = [one for tar, sample in samples for one in _an_image_each(tar, sample, fields)]
    items, left = _items(samples, fields)
    for name in left:
        aside.add("members of no field", name)
    folders = {folder for tar in opened for folder in tar.folders}
    items, classes, more = _with_classes(place, items, samples, labels, aside, folders)
    return Source(
        name=_stem(place.path),
        items=items,
        reader=reader,
        classes=classes,
        licence="not stated",
        origin=str(place.path),
        images=fields.images,
        fields=fields.others,
        members=tuple(sorted({name for item in items for name in item.fields} - {*fields.images, *fields.others})),
        stamp=_stamp(opened),
        left_aside=aside,
        notes=(*notes, *more),
        spans=not any(tar.unpacked for tar in opened),
    )


def from_imagenet(place: Place) -> Source:
    """Return ImageNet's training images (Deng et al. 2009; ILSVRC2012) from the official `ILSVRC2012_img_train.tar`.

    Args:
        place: of that tar of tars, or of a folder with it or with the tars that were in it (n01440764.tar ...). If
            `LOC_synset_mapping.txt` lies beside them, classes have words for names, else WordNet's numbers. Words that
            two synsets share have the number behind them.

    Raises:
        DataError: no such tars there.
    """
    place.without_splits()
    path = place.path
    folder = path if path.is_dir() else path.parent
    whole = path if path.is_file() else path / IMAGENET
    tars = [whole] if whole.is_file() else sorted(path.glob("n*.tar"))
    if not tars:
        raise DataError(f"{path}: neither {IMAGENET} nor n????????.tar in it (from image-net.org)")
    aside, opened = LeftAside(), []
    by_synset: dict[str, list[Member]] = {}
    for tar in tars:
        opened.append(one := open_tar(tar.resolve(), place))
        for member in members_of(one, aside):
            if member.name.endswith(".tar") and isinstance(member.where, Span):
                start, size = member.where.offset, member.where.size
                inner = members_of(one, aside, start=start, end=start + size)
                by_synset.setdefault(Path(member.name).stem, []).extend(inner)
            else:
                by_synset.setdefault(_stem(tar), []).append(member)
    synsets = sorted(by_synset)
    return Source(
        name="imagenet",
        items=[
            Item(f"{synset}/{name}", where, label)
            for label, synset in enumerate(synsets)
            for name, where, _ in sorted(by_synset[synset], key=lambda member: member.name)
        ],
        reader=_reader(opened),
        classes=distinct_names(_synset_words(folder / "LOC_synset_mapping.txt", synsets), synsets),
        licence="ImageNet terms of access: non-commercial research and education",
        origin=str(path),
        stamp=_stamp(opened),
        left_aside=aside,
    )


def _tars(place: Place, aside: LeftAside) -> tuple[list[Path], tuple[str, ...]]:
    """Return the tars of the part that is asked for, and what to tell of the parts."""
    path = place.path
    if path.is_file():
        part = part_of_file(path.name)
        if part is not None and place.split not in (ALL, part):
            raise DataError(f"{path}: has no split '{place.split}' of its own; it is of {part}")
        return [path], ()
    files = place.listing.files
    names = [name for name in files if is_tar_name(name)]
    for name in files:
        if not is_tar_name(name):
            aside.add("files beside the tars", name)
    for why, count in place.listing.left_aside.counts.items():
        aside.counts[why] += count
        aside.first.setdefault(why, []).extend(place.listing.left_aside.first[why])
    if not names:
        raise DataError(f"{path}: no .tar in it")
    parts = {name: part_of_file(name) for name in names}
    known = sorted({part for part in parts.values() if part})
    notes: tuple[str, ...] = ()
    if place.split != ALL:
        chosen = [name for name in names if parts[name] == place.split]
        if not chosen:
            words = f"its tars are of {', '.join(known)}" if known else "hold samples out with --test"
            raise DataError(f"{path}: has no split '{place.split}' of its own; {words}")
        for name in names:
            if parts[name] != place.split:
                aside.add("tars of other splits", name)
        names = chosen
    elif len(known) > 1:
        notes = (f"tars of {', '.join(known)} were combined; --split selects one part",)
    return [path / str(files[name].where) for name in names], notes


def _why_none(members: Sequence[Sequence[Member]]) -> str:
    """Return why tars have no members."""
    lost = [member.where for some in members for member in some if isinstance(member.where, Lost)]
    return f"{lost[0].path}: {lost[0].detail}" if lost else "it is empty"


def _data_only(tar: OpenTar, members: Iterable[Member], aside: LeftAside) -> list[Member]:
    """Leave documents and archives aside; give images without an extension the one of their content."""
    kept = []
    for member in members:
        base = member.name.rpartition("/")[2].upper()
        if suffix_of(member.name) in _DOCUMENTS or base.startswith(("README", "LICENSE", "LICENCE", "CHANGELOG")):
            aside.add("documents and archives", member.name)
        elif may_be_image(member.name) and isinstance(member.where, Span):
            found = image_format(tar.read(member.where, HEAD))
            kept.append(
                member._replace(name=f"{stem_of(member.name)}.{_ENDINGS[found]}") if found in _ENDINGS else member
            )
        else:
            kept.append(member)
    return kept


def _an_image_each(tar: str, sample: Sample, fields: MemberFields) -> list[tuple[str, Sample]]:
    """Return a sample for each plain image among the members, as the same files in a folder are."""
    images = [extension for extension in sample.parts if kind_of_member(extension) == IMAGE and "." not in extension]
    if len(images) < 2:
        return [(tar, sample)]
    others = {extension: where for extension, where in sample.parts.items() if extension not in images}
    return [(tar, Sample(f"{sample.name}.{one}", {one: sample.parts[one], **others})) for one in images]


def _items(samples: Sequence[tuple[str, Sample]], fields: MemberFields) -> tuple[list[Item], list[str]]:
    """Return the items of samples, and the names of members that are part of none."""
    items: list[Item] = []
    left: dict[Span | Lost, str] = {}
    for tar, sample in samples:
        item, unused = fields.item(f"{tar}/{sample.name}", sample.parts)
        items.append(item)
        left |= {sample.parts[extension]: f"{tar}/{sample.name}.{extension}" for extension in unused}
    return items, list(left.values())


def _with_classes(
    place: Place,
    items: list[Item],
    samples: Sequence[tuple[str, Sample]],
    labels: list[Any],
    aside: LeftAside,
    folders: Collection[str],
) -> tuple[list[Item], tuple[str, ...], tuple[str, ...]]:
    """Give items their classes: by their labels, or, where there is none at all, by their folders."""
    if any(label is not None for label in labels):
        sound = [number for number, item in enumerate(items) if isinstance(item.where, Span)]
        indices, classes = as_classes(
            [labels[number] for number in sound], str(place.path), lambda number: items[sound[number]].name
        )
        for number, label in zip(sound, indices, strict=bool(indices)):
            items[number] = items[number]._replace(label=label)
        return items, classes, ()
    if place.label == NO_LABELS:
        unwanted = {where: f"{sample.name}.cls" for _, sample in samples if (where := sample.parts.get("cls"))}
        for name in unwanted.values():
            aside.add("labels, which were not requested", name)
        return items, (), ()
    names = [sample.name for _, sample in samples]
    fielded = [name for name, (_, sample) in zip(names, samples, strict=True) if any(map(field_of, sample.parts))]
    inside = place.path.is_file() and part_of_file(place.path.name) is None
    fielded = list(dict.fromkeys(fielded))
    try:
        layout = layout_of(fielded, str(place.path), place.split if inside else ALL, folders)
    except UnclearLabelsError as error:
        reason = str(error).removeprefix(f"{place.path}: ").rpartition("; ")[0]
        return items, (), (f"no folder in it is used as a class: {reason}",)
    elsewhere = set(layout.elsewhere)
    found = [
        item._replace(label=layout.labels.get(name, -1))
        for item, name in zip(items, names, strict=True)
        if name not in elsewhere
    ]
    notes = (f"{len(items) - len(found)} samples are in other splits",) if elsewhere else ()
    return found, layout.classes, (*layout.notes, *notes)


def _label(parts: dict[str, Span | Lost], tar: OpenTar, place: Place) -> Any:
    cls, about = parts.get("cls"), parts.get("json")
    if place.label == NO_LABELS:
        return None
    if isinstance(cls, Span) and place.label in (None, "cls"):
        return tar.read(cls)
    if isinstance(about, Span):
        try:
            document = json.loads(tar.read(about))
        except ValueError:
            return None
        if isinstance(document, dict):
            return next((document[key] for key in place.columns(_JSON_LABELS) if key in document), None)
    return None


def _reader(opened: Sequence[OpenTar]) -> SpanReader:
    """Return a reader of the tars' members that holds what was unpacked."""
    unpacked = [tar for tar in opened if tar.unpacked]
    return SpanReader(
        {tar.path: tar.held.path for tar in unpacked},
        tuple(tar.held for tar in unpacked),
    )


def _stamp(opened: Sequence[OpenTar]) -> str:
    stats = {tar.path: Path(tar.path).stat() for tar in opened}
    return stamp_of({path: f"{stat.st_size} {stat.st_mtime_ns}" for path, stat in stats.items()})


def _stem(path: Path) -> str:
    """Return a tar's name without its extensions."""
    name = path.name
    for suffix in (".gz", ".bz2", ".xz", ".zst", ".lz4"):
        name = name.removesuffix(suffix)
    return Path(name).stem


def _synset_words(mapping: Path, synsets: list[str]) -> tuple[str, ...]:
    """Return the classes' names: lines of the mapping are `n01440764 tench, Tinca tinca`."""
    if not mapping.is_file():
        return tuple(synsets)
    lines = (line.partition(" ") for line in mapping.read_text(encoding="utf-8-sig").splitlines())
    words = {synset: text.strip() for synset, _, text in lines}
    if missing := [synset for synset in synsets if synset not in words]:
        raise DataError(f"{mapping}: {len(missing)} synsets are not in it (the first: {first_of(missing, 1)})")
    return tuple(words[synset] for synset in synsets)
