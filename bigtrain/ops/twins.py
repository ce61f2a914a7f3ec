"""Each operator's fast path has a plain reference twin; here all are switched to their twins at once."""

import contextlib
from collections.abc import Iterator
from typing import Literal

Twins = Literal["none", "published", "definition"]
_twins: Twins = "none"


@contextlib.contextmanager
def reference_paths(*, as_published: bool = False) -> Iterator[None]:
    """Let every operator compute by its definition, slowly: to find out whether a fast path is to blame.

    Args:
        as_published: leave alone what the papers' own code rearranges too, which is what speed is compared with: a
            modulation that is moved out of its convolution, a stride in the convolution before or after a filter.
    """
    global _twins  # not a context variable: the backward of a GPU runs in threads of its own
    before, _twins = _twins, "published" if as_published else "definition"
    try:
        yield
    finally:
        _twins = before


def use_reference() -> bool:
    """Tell whether an operator shall compute by its definition."""
    return _twins != "none"


def use_definition() -> bool:
    """Tell whether it shall do so even where the papers' own code does not."""
    return _twins == "definition"
