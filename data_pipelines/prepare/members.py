"""Which fields the members of WebDataset samples make, by their extensions."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from data_pipelines.errors import DataError
from data_pipelines.fields.registry import find_kind
from data_pipelines.fields.spec import FieldSpec
from data_pipelines.manifest import IMAGE
from data_pipelines.member_names import OTHER_KINDS, field_of, kind_of_member
from data_pipelines.prepare.captions import TEXT, caption_field
from data_pipelines.protocol import Rejected
from data_pipelines.source import Item, Lost, Span, SpanReader, Where

_MEMBER = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)*")


@dataclass(frozen=True)
class MemberFields:
    """The fields of samples whose members are known by their extensions.

    Attributes:
        images: names of the fields that are images.
        others: those of other kinds.
    """

    images: tuple[str, ...]
    others: Mapping[str, FieldSpec]

    def item(self, name: str, parts: Mapping[str, Span | Lost]) -> tuple[Item, list[str]]:
        """Return a sample, which has no label yet, and the extensions of members that are not part of it.

        Its fields come first, then what else there is under its extension.
        """
        damaged = next(
            (where for where in parts.values() if isinstance(where, Lost) and where.reason == "damaged"), None
        )
        if damaged is not None:
            return Item(name, damaged), []
        first, *further = (*self.images, *self.others)
        found: dict[str, Where | bytes] = {}
        unused = []
        for extension, where in parts.items():
            field = field_of(extension)
            if field in (first, *further) and field not in found:
                found[field] = where
            elif extension != "cls" and _MEMBER.fullmatch(extension):
                found[extension] = where
            elif extension != "cls":
                unused.append(extension)
        path = next(where.path for where in parts.values())
        where_first = found.pop(first, Lost(path, "missing", "no image among the sample's members"))
        assert isinstance(where_first, Span | Lost)
        return Item(name, where_first, -1, found), unused


def fields_of(samples: Sequence[Mapping[str, Span | Lost]], place: str, reader: SpanReader) -> MemberFields:
    """Find out which fields samples have.

    Args:
        samples: the spans of each sample's members by their extensions.
        place: where they are, for errors.
        reader: of the members.

    Raises:
        DataError: there is no field at all, or one that cannot be read.
    """
    extensions = {extension for parts in samples for extension in parts}
    images = {field_of(extension) for extension in extensions if kind_of_member(extension) == IMAGE}
    captions = [
        where.size if isinstance(where, Span) else 0
        for parts in samples
        for extension, where in parts.items()
        if field_of(extension) == TEXT
    ]
    others = caption_field(captions)
    if IMAGE in images:
        return MemberFields((IMAGE,), others)
    for extension in sorted(extensions):
        if kind_of_member(extension) in OTHER_KINDS.values():
            spans = [where for parts in samples if isinstance(where := parts.get(extension), Span)]
            others[field_of(extension)] = _probe(
                reader, kind_of_member(extension), spans, f"{place}: member .{extension}"
            )
    if not images and others.keys() <= {TEXT}:
        raise DataError(f"{place}: no images in its tars, nor arrays (.npy) or sounds (.wav, .flac)")
    return MemberFields(tuple(sorted(images)), others)


def _probe(reader: SpanReader, kind: str, spans: Sequence[Span], what: str) -> FieldSpec:
    """Return the spec of the first of a field's files that can be read."""
    problem = "there is none"
    for span in spans:
        try:
            spec = find_kind(kind).probe(reader.read(span))
        except (Rejected, ValueError) as error:
            problem = str(error)
            continue
        return spec
    raise DataError(f"{what}: none can be read ({problem})")
