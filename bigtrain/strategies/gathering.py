"""How sharded weights are cut into messages that make them whole."""

from collections.abc import Iterator, Sequence
from typing import Any

GATHERED_TOGETHER = 4 * 2**20
"""Bytes of whole weights that one message gathers, if a single weight is not larger."""


def in_messages(sizes: Sequence[tuple[Any, int]]) -> Iterator[list[tuple[Any, int]]]:
    """Cut weights, given with their padded numbers of elements, into what one message gathers."""
    together: list[tuple[Any, int]] = []
    for entry in sizes:
        if together and 4 * (entry[1] + sum(count for _, count in together)) > GATHERED_TOGETHER:
            yield together
            together = []
        together.append(entry)
    if together:
        yield together
