"""The kinds of fields by their names: our own, and those of other packages."""

from functools import cache

from data_pipelines.fields.array import ArrayKind
from data_pipelines.fields.audio import AudioKind
from data_pipelines.fields.class_ import ClassKind
from data_pipelines.fields.classes import ClassesKind
from data_pipelines.fields.image import ImageKind
from data_pipelines.fields.kind import FieldKind
from data_pipelines.fields.spec import FieldSpec
from data_pipelines.fields.text import TextKind
from data_pipelines.fields.video import VideoKind

GROUP = "bigtrain.field_kinds"
"""Entry points of this group name subclasses of `FieldKind`; other packages add kinds so."""

_OWN: dict[str, FieldKind] = {
    kind.name: kind
    for kind in (ImageKind(), ClassKind(), ClassesKind(), TextKind(), ArrayKind(), AudioKind(), VideoKind())
}


def kind_of(spec: FieldSpec) -> FieldKind:
    """Return the kind of a field.

    Raises:
        ValueError: no package that is installed brings such a kind.
    """
    return find_kind(spec.kind)


def find_kind(name: str) -> FieldKind:
    """Return the kind of this name; other packages are only looked through for names that are not ours.

    Raises:
        ValueError: no package that is installed brings such a kind.
    """
    kind = _OWN.get(name) or _foreign().get(name)
    if kind is None:
        known = ", ".join(sorted({*_OWN, *_foreign()}))
        raise ValueError(f"kind {name!r} is not known: {known} (other packages add kinds by entry points of {GROUP})")
    return kind


def kind_names() -> tuple[str, ...]:
    """Return the names of all kinds that are installed."""
    return tuple(sorted({*_OWN, *_foreign()}))


def check_spec(spec: FieldSpec) -> None:
    """Raise ValueError, with what would be right, if there can be no such field."""
    kind_of(spec).check(spec)


@cache
def _foreign() -> dict[str, FieldKind]:
    """Return the kinds of other packages; reading what is installed takes some milliseconds, and so does the import."""
    from importlib.metadata import entry_points

    kinds: dict[str, FieldKind] = {}
    for entry in entry_points(group=GROUP):
        kind = entry.load()()
        if not isinstance(kind, FieldKind):
            raise ValueError(f"entry point {entry.name!r} of {GROUP} is {entry.value}, which is no FieldKind")
        kinds[kind.name] = kind
    return kinds
