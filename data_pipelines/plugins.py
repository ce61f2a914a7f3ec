"""What other packages add to ours: a registry holds our own objects and those that entry points name."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from data_pipelines.errors import DataError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

T = TypeVar("T")
Read = Callable[[str, Any], tuple[str, T] | None]
"""Turns an entry point's name and object into a registry's key and value; None: the object is not for this registry."""


class PluginError(DataError):
    """An installed package brings something that cannot be used; one line that names the package."""


class Plugin(NamedTuple):
    """An object that another package brings.

    Attributes:
        name: of the entry point.
        value: what it names.
        origin: the package and the entry point, in words, for error messages.
    """

    name: str
    value: Any
    origin: str


class Registry(Mapping[str, T]):
    """Objects by name: our own, and those that other packages register for an entry point group.

    The other packages are imported at the first look at the registry, not before: programs that never look at it
    start as fast as without them.

    Args:
        group: of the entry points.
        wanted: what an entry point of this group should name, for error messages.
        read: see `Read`.
    """

    def __init__(self, group: str, wanted: str, read: Read[T]) -> None:
        self.group, self._wanted, self._read = group, wanted, read
        self._own: dict[str, T] = {}
        self._foreign: dict[str, T] | None = None
        _REGISTRIES.setdefault(group, []).append(self)

    def add(self, *own: tuple[str, T]) -> None:
        """Add objects of ours by name, before the first look."""
        self._own.update(own)

    def foreign(self) -> dict[str, T]:
        """Return what other packages have registered.

        Raises:
            PluginError: a package cannot be imported, or what it brings does not fit or has a name that is taken.
        """
        if self._foreign is None:
            found: dict[str, T] = {}
            origins = dict.fromkeys(self._own, "bigtrain")
            for plugin in load_plugins(self.group):
                read = self._read(plugin.name, plugin.value)
                if read is None:
                    _check_wanted(self.group, plugin)
                    continue
                name, value = read
                if name in origins:
                    raise PluginError(f"{plugin.origin}: '{name}' is taken by {origins[name]}; rename or uninstall it")
                found[name], origins[name] = value, plugin.origin
            self._foreign = found
        return self._foreign

    def __getitem__(self, name: str) -> T:
        return self._own[name] if name in self._own else self.foreign()[name]

    def __iter__(self) -> Iterator[str]:
        return iter({**self._own, **self.foreign()})

    def __len__(self) -> int:
        return len(self._own) + len(self.foreign())

    __hash__ = object.__hash__  # a registry may be part of a type, and is equal to itself alone

    def __eq__(self, other: object) -> bool:
        return self is other

    def fits(self, plugin: Plugin) -> bool:
        """Whether a plug-in is for this registry."""
        return self._read(plugin.name, plugin.value) is not None

    @property
    def wanted(self) -> str:
        """What an entry point of this group should name, in words."""
        return self._wanted


_REGISTRIES: dict[str, list[Registry[Any]]] = {}
"""Several registries may share a group, such as networks of different roles: each takes what fits it."""


def plugin_names(group: str) -> dict[str, str]:
    """Return the entry points of a group that are installed, with their packages; nothing is imported."""
    return {entry.name: _package_of(entry) for entry in _entry_points(group)}


@cache
def load_plugins(group: str) -> tuple[Plugin, ...]:
    """Import what other packages register for a group, once.

    Raises:
        PluginError: a package cannot be imported; the message names it and the reason.
    """
    plugins = []
    for entry in sorted(_entry_points(group), key=lambda entry: (_package_of(entry), entry.name)):
        origin = f"package {_package_of(entry)}, entry point '{entry.name}' of {group}"
        try:
            value = entry.load()
        except Exception as error:  # whatever its code does as it is imported
            reason = " ".join(str(error).split())
            raise PluginError(
                f"{origin}: cannot be loaded ({type(error).__name__}: {reason}); fix or uninstall it"
            ) from error
        plugins.append(Plugin(entry.name, value, origin))
    return tuple(plugins)


def _entry_points(group: str) -> "Iterable[EntryPoint]":
    from importlib.metadata import entry_points  # it takes some milliseconds

    return entry_points(group=group)


def _package_of(entry: "EntryPoint") -> str:
    return f"'{entry.dist.name}' {entry.dist.version}" if entry.dist else "unknown"


def _check_wanted(group: str, plugin: Plugin) -> None:
    registries = _REGISTRIES[group]
    if not any(registry.fits(plugin) for registry in registries):
        wanted = " or ".join(dict.fromkeys(registry.wanted for registry in registries))
        raise PluginError(f"{plugin.origin}: is {plugin.value!r}, expected {wanted}")
