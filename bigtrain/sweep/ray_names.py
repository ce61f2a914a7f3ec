"""What is checked of the names and arguments of Ray Tune's schedulers and search algorithms, before Ray starts."""

from collections.abc import Collection, Mapping
from importlib.util import find_spec
from typing import Any

_NEEDS = {"bohb": ("hpbandster", "ConfigSpace"), "pb2": ("sklearn",)}
"""Modules that Ray needs for a name, beyond what it says itself."""


def import_ray(name: str) -> None:
    """Check that Ray Tune, and what it needs for a scheduler or a search algorithm, is installed.

    Raises:
        ValueError: a package is missing.
    """
    if find_spec("ray") is None:
        raise ValueError("kind 'ray' needs Ray Tune (pip install 'bigtrain[tune]')")
    missing = [module for module in _NEEDS.get(name, ()) if find_spec(module) is None]
    if missing:
        raise ValueError(
            f"{name} needs {' and '.join(missing)}, which is not installed (pip install {' '.join(missing)})"
        )


def check_arguments(name: str, arguments: Mapping[str, Any], known: Collection[str]) -> None:
    """Check the names of the arguments of a scheduler or a search algorithm.

    Raises:
        ValueError: one of them is unknown.
    """
    for key in arguments:
        if key not in known:
            raise ValueError(f"args: {name} has no '{key}'; it has {', '.join(known)}")
