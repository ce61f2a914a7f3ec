"""Which fields the members of WebDataset samples make, by their extensions."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from data_pipelines.errors import DataError
from data_pipelines.fields.registry import find_kind
from data_pipelines.fields.spec import FieldSpec
from data_pipelines.manifest import CLASS, IMAGE
from data_pipelines.prepare.captions import TEXT, caption_field
from data_pipelines.prepare.files import IMAGE_SUFFIXES
from data_pipelines.protocol import Rejected
from data_pipelines.source import NO_IMAGE, Item, Span, SpanReader, Where

OTHER_KINDS = {"npy": "array", "wav": "audio", "flac": "audio"}
"""Extension -> kind of field."""

_MEMBER = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)*")
_NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True)
class MemberFields:
    """The fields of samples whose members are known by their extensions.

    Attributes:
        images: names of the fields that are images.
        others: those of other kinds.
    """

    images: tuple[str, ...]
    others: Mapping[str, FieldSpec]

    def item(self, name: str, parts: Mapping[str, Span]) -> Item:
        """Return a sample: its fields, and what else there is under its extension; it has no label yet."""
        damaged = next((span for span in parts.values() if span.size < 0), None)
        if damaged is not None:
            return Item(name, damaged)
        first, *further = (*self.images, *self.others)
        found: dict[str, Where | bytes] = {}
        for extension, span in parts.items():
            field = field_of(extension)
            if field in (first, *further) and field not in found:
                found[field] = span
            elif extension != "cls" and _MEMBER.fullmatch(extension):
                found[extension] = span
        start = next(iter(parts.values()))
        where = found.pop(first, Span(start.path, start.offset, NO_IMAGE))
        assert isinstance(where, Span)
        return Item(name, where, -1, found)


def fields_of(samples: Sequence[Mapping[str, Span]], place: str) -> MemberFields:
    """Find out which fields samples have.

    Args:
        samples: the spans of each sample's members by their extensions.
        place: where they are, for errors.

    Raises:
        DataError: there is no field at all, or one that cannot be read.
    """
    extensions = {extension for parts in samples for extension, span in parts.items() if span.size >= 0}
    images = {field_of(extension) for extension in extensions if _kind(extension) == IMAGE}
    captions = [span.size for parts in samples for extension, span in parts.items() if field_of(extension) == TEXT]
    others = caption_field(captions)
    if IMAGE in images:
        return MemberFields((IMAGE,), others)
    for extension in sorted(extensions):
        if _kind(extension) in OTHER_KINDS.values():
            spans = [parts[extension] for parts in samples if parts.get(extension, Span("", 0, -1)).size >= 0]
            others[field_of(extension)] = _probe(_kind(extension), spans, f"{place}: member .{extension}")
    if not images and others.keys() <= {TEXT}:
        raise DataError(f"{place}: no images in its tars, nor arrays (.npy) or sounds (.wav, .flac)")
    return MemberFields(tuple(sorted(images)), others)


def field_of(extension: str) -> str:
    """Return the name of the field that a member of this extension belongs to; empty if to none."""
    kind = _kind(extension)
    return (extension.rpartition(".")[0] or kind) if kind else ""


def _kind(extension: str) -> str:
    """Return the kind of a member by its extension; empty if it is none, or its name could be no field's."""
    name, _, last = extension.rpartition(".")
    if name and (name == CLASS or not _NAME.fullmatch(name)):
        return ""
    if f".{last}" in IMAGE_SUFFIXES:
        return IMAGE
    return TEXT if last == "txt" and not name else OTHER_KINDS.get(last, "")


def _probe(kind: str, spans: Sequence[Span], what: str) -> FieldSpec:
    """Return the spec of the first of a field's files that can be read."""
    reader, problem = SpanReader(), "there is none"
    for span in spans:
        try:
            spec = find_kind(kind).probe(reader.read(span))
        except (Rejected, ValueError) as error:
            problem = str(error)
            continue
        return spec
    raise DataError(f"{what}: none can be read ({problem})")
