"""WebDataset tars that others made, and ImageNet's tar of tars: found by their headers, not unpacked."""

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from data_pipelines.errors import DataError
from data_pipelines.prepare.files import stamp_of
from data_pipelines.prepare.members import fields_of
from data_pipelines.prepare.table import as_classes
from data_pipelines.source import DAMAGED, Item, Source, Span, SpanReader, Where

_JSON_LABELS = ("label", "cls", "class")
Member = tuple[str, Span]


def from_webdataset(path: Path) -> Source:
    """Return the samples of a tar, or of all tars below a folder, in the order of their names.

    A sample is what consecutive members of one name (up to the first dot) make: an image, its class in `.cls` or in
    `.json` under `label`, `cls` or `class`, a caption in `.txt`, the field `text`, and whatever else there is, kept as
    members. Where there is no plain image, members such as `.input.png` and `.target.png`, `.npy`, `.latent.npy`
    or `.wav` are the fields, called as the extension begins; their samples must be alike.

    Raises:
        DataError: no tars, no fields in them, or only some have a class.
    """
    tars = [path] if path.is_file() else sorted(path.rglob("*.tar"))
    if not tars:
        raise DataError(f"{path}: no .tar in it")
    samples: list[tuple[str, dict[str, Span]]] = []
    labels: list[Any] = []
    stats = {}
    for tar in tars:
        tar = tar.resolve()
        stats[str(tar)] = f"{tar.stat().st_size} {tar.stat().st_mtime_ns}"
        with tar.open("rb") as file:
            for name, parts in _samples(_members(tar, file)):
                samples.append((f"{tar.name}/{name}", parts))
                labels.append(_label(parts, file))
    fields = fields_of([parts for _, parts in samples], str(path))
    items = [fields.item(name, parts) for name, parts in samples]
    known = [label for item, label in zip(items, labels, strict=True) if _is_sound(item.where)]
    indices, classes = as_classes(None if set(known) == {None} else known, str(path))
    numbers = iter(indices)
    items = [item._replace(label=next(numbers, -1)) if _is_sound(item.where) else item for item in items]
    return Source(
        name=path.stem,
        items=items,
        reader=SpanReader(),
        classes=classes,
        licence="not stated",
        origin=str(path),
        images=fields.images,
        fields=fields.others,
        members=tuple(sorted({name for item in items for name in item.fields} - {*fields.images, *fields.others})),
        stamp=stamp_of(stats),
        spans=True,
    )


def from_imagenet(path: Path) -> Source:
    """Return ImageNet's training images (Deng et al. 2009; ILSVRC2012) from the official `ILSVRC2012_img_train.tar`.

    Args:
        path: of that tar of tars, or of a folder with it or with the tars that were in it (n01440764.tar ...). If
            `LOC_synset_mapping.txt` lies beside them, classes have words for names, else WordNet's numbers.

    Raises:
        DataError: no such tars there.
    """
    folder = path if path.is_dir() else path.parent
    whole = path if path.is_file() else path / "ILSVRC2012_img_train.tar"
    tars = [whole] if whole.is_file() else sorted(path.glob("n*.tar"))
    if not tars:
        raise DataError(f"{path}: neither ILSVRC2012_img_train.tar nor n????????.tar in it (from image-net.org)")
    by_synset: dict[str, list[Member]] = {}
    for tar in tars:
        with tar.open("rb") as file:
            for name, span in list(_members(tar.resolve(), file)):
                if name.endswith(".tar") and _is_sound(span):
                    by_synset[Path(name).stem] = list(_members(tar.resolve(), file, span.offset))
                else:
                    by_synset.setdefault(tar.stem, []).append((name, span))
    synsets = sorted(by_synset)
    return Source(
        name="imagenet",
        items=[
            Item(f"{synset}/{name}", span, label)
            for label, synset in enumerate(synsets)
            for name, span in sorted(by_synset[synset])
        ],
        reader=SpanReader(),
        classes=_synset_words(folder / "LOC_synset_mapping.txt", synsets),
        licence="ImageNet terms of access: non-commercial research and education",
        origin=str(path),
        stamp=stamp_of({str(tar): f"{tar.stat().st_size} {tar.stat().st_mtime_ns}" for tar in tars}),
    )


def _members(path: Path, file: IO[bytes], base: int = 0) -> Iterator[Member]:
    """Iterate over the files in a tar; where it is damaged, a last member says so (`tarfile` alone would just end).

    Args:
        path: of the file that is read.
        file: `path`, opened.
        base: where the tar begins in it.
    """
    read_to = base
    file.seek(base)
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:  # offsets count from the beginning of `file`
            for member in tar:
                if member.isfile():
                    yield member.name, Span(str(path), member.offset_data, member.size)
                read_to = member.offset_data + -(-member.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
        file.seek(read_to)
        whole = file.read(tarfile.BLOCKSIZE) == bytes(tarfile.BLOCKSIZE)  # else it was cut between two members
    except tarfile.TarError:
        whole = False
    if not whole:
        yield f"byte {read_to}", Span(str(path), read_to, DAMAGED)


def _samples(members: Iterator[Member]) -> Iterator[tuple[str, dict[str, Span]]]:
    """Group consecutive members by their name up to the first dot of the last part."""
    name = ""
    parts: dict[str, Span] = {}
    for path, span in members:
        folder, slash, file = path.rpartition("/")
        stem, _, suffix = file.partition(".")
        key = folder + slash + stem
        if parts and (key != name or suffix.lower() in parts or not _is_sound(span)):
            yield name, parts
            parts = {}
        name = key if _is_sound(span) else path
        parts[suffix.lower()] = span
    if parts:
        yield name, parts


def _label(parts: dict[str, Span], file: IO[bytes]) -> Any:
    if "cls" in parts:
        text = _content(file, parts["cls"]).decode("utf-8", "replace").strip()
        return int(text) if text.isdecimal() else text
    if "json" in parts:
        try:
            document = json.loads(_content(file, parts["json"]))
        except ValueError:
            return None
        if isinstance(document, dict):
            return next((document[key] for key in _JSON_LABELS if key in document), None)
    return None


def _content(file: IO[bytes], span: Span) -> bytes:
    here = file.tell()
    file.seek(span.offset)
    content = file.read(span.size)
    file.seek(here)
    return content


def _is_sound(span: Where) -> bool:
    return isinstance(span, Span) and span.size >= 0


def _synset_words(mapping: Path, synsets: list[str]) -> tuple[str, ...]:
    """Return the classes' names: lines of the mapping are `n01440764 tench, Tinca tinca`."""
    if not mapping.is_file():
        return tuple(synsets)
    lines = (line.partition(" ") for line in mapping.read_text(encoding="utf-8").splitlines())
    words = {synset: text.strip() for synset, _, text in lines}
    if missing := [synset for synset in synsets if synset not in words]:
        raise DataError(f"{mapping}: {len(missing)} synsets are not in it (the first: {missing[0]})")
    return tuple(words[synset] for synset in synsets)
