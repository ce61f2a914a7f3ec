"""What is checked of the names and arguments of Ray Tune's schedulers and search algorithms, before Ray starts."""

import textwrap
from collections.abc import Collection, Mapping
from importlib.util import find_spec
from typing import Any


def require_ray() -> None:
    """Check that Ray Tune is installed.

    Raises:
        ValueError: it is not.
    """
    if find_spec("ray") is None:
        raise ValueError("kind 'ray' needs Ray Tune (pip install 'bigtrain[tune]')")


def check_arguments(name: str, arguments: Mapping[str, Any], known: Collection[str]) -> None:
    """Check the names of the arguments of a scheduler or a search algorithm.

    Raises:
        ValueError: one of them is unknown.
    """
    for key in arguments:
        if key not in known:
            raise ValueError(f"args: {name} has no '{key}'; it has {', '.join(known)}")


def one_line(error: Exception) -> str:
    """Return the message of an error of Ray or of its libraries, which may have paragraphs, as one line."""
    return textwrap.shorten(str(error), 300) or type(error).__name__
