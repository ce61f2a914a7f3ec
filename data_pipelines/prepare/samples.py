"""Samples of WebDataset tars: members of one name, in whatever order they lie."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from data_pipelines.manifest import IMAGE
from data_pipelines.member_names import is_field_name, kind_of_member
from data_pipelines.prepare.tar_members import Member
from data_pipelines.source import Lost, Span


class Sample(NamedTuple):
    """The members of one sample.

    Attributes:
        name: what its members have in common.
        parts: where they are, by extension, in the order of the tar.
    """

    name: str
    parts: dict[str, Span | Lost]


def samples_of(members: Iterable[Member], *, whole_stems: bool) -> list[Sample]:
    """Group members by their names, in the order in which the tar has each sample's first one.

    Members need not follow each other. Where a tar has a name twice, the second one begins a second sample.

    Args:
        members: of one tar.
        whole_stems: whether an extension begins at a name's last dot; else at its first, as in WebDatasets.
    """
    groups: dict[tuple[int, str, int], dict[str, Span | Lost]] = {}
    seen: Counter[tuple[int, str]] = Counter()
    for member in members:
        if isinstance(member.where, Lost) and member.where.reason == "damaged":
            groups[member.part, member.name, -1] = {"": member.where}
            continue
        key, extension = split_name(member.name, whole_stems=whole_stems)
        number = seen[member.part, f"{key}.{extension}"]
        seen[member.part, f"{key}.{extension}"] += 1
        groups.setdefault((member.part, key, number), {})[extension] = member.where
    return [Sample(key, parts) for (_, key, _), parts in groups.items()]


def split_name(name: str, *, whole_stems: bool) -> tuple[str, str]:
    """Return a member's key and its extension in lower case."""
    folder, slash, file = name.rpartition("/")
    stem, _, extension = file.rpartition(".") if whole_stems and "." in file else file.partition(".")
    return folder + slash + stem, extension.lower()


def have_dotted_names(names: Sequence[str]) -> bool:
    """Tell whether the dots in names are part of these (`photo.001.jpg`), not the names of fields (`a.left.jpg`).

    Names of fields come again with each sample; what lies between a name's first dot and its last does not, and may
    be no name of a field at all.
    """
    middles: Counter[str] = Counter()
    keys = set()
    for name in names:
        key, extension = split_name(name, whole_stems=False)
        middle, _, last = extension.rpartition(".")
        if middle and kind_of_member(last) == IMAGE:
            middles[middle] += 1
            keys.add(key)
    if not middles:
        return False
    if not all(is_field_name(middle) for middle in middles):
        return True
    return len(middles) > 1 and 2 * max(middles.values()) < len(keys)
