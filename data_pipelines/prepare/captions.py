"""Captions: the field `text` of sources that have some."""

from collections.abc import Iterable

from data_pipelines.fields.spec import FieldSpec

TEXT = "text"
"""Name of the field; its files have the extension `txt`."""


def caption_field(lengths: Iterable[int]) -> dict[str, FieldSpec]:
    """Return the field that holds the longest of some captions.

    Args:
        lengths: of the captions in bytes; none where there are no captions.

    Returns:
        The spec by the field's name; nothing where there are no captions.
    """
    longest = max(lengths, default=None)
    if longest is None:
        return {}
    return {TEXT: FieldSpec("text", (max(longest, 1),), "uint8", codec="txt")}
