"""The kinds of fields by their names: our own, and those of other packages."""

from typing import Any

from data_pipelines.fields.array import ArrayKind
from data_pipelines.fields.audio import AudioKind
from data_pipelines.fields.class_ import ClassKind
from data_pipelines.fields.classes import ClassesKind
from data_pipelines.fields.image import ImageKind
from data_pipelines.fields.kind import FieldKind
from data_pipelines.fields.spec import FieldSpec
from data_pipelines.fields.text import TextKind
from data_pipelines.fields.video import VideoKind
from data_pipelines.plugins import Registry

GROUP = "bigtrain.field_kinds"
"""Entry points of this group name subclasses of `FieldKind`; other packages add kinds so."""


def _read(name: str, found: Any) -> tuple[str, FieldKind] | None:
    return (found.name, found()) if isinstance(found, type) and issubclass(found, FieldKind) else None


KINDS: Registry[FieldKind] = Registry(GROUP, "a subclass of FieldKind", _read)
KINDS.add(
    *(
        (kind.name, kind)
        for kind in (ImageKind(), ClassKind(), ClassesKind(), TextKind(), ArrayKind(), AudioKind(), VideoKind())
    )
)


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
    if name not in KINDS:
        known = ", ".join(sorted(KINDS))
        raise ValueError(f"kind {name!r} is not known: {known} (other packages add kinds by entry points of {GROUP})")
    return KINDS[name]


def kind_names() -> tuple[str, ...]:
    """Return the names of all kinds that are installed."""
    return tuple(sorted(KINDS))


def check_spec(spec: FieldSpec) -> None:
    """Raise ValueError, saying how to correct it, if there can be no such field."""
    kind_of(spec).check(spec)
