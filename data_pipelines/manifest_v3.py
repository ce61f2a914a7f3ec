"""Manifests of format 3, which knew one image and one class a sample: read as if they were of today's format.

Their digests stay what they are, so that a run that was begun on such a set goes on.
"""

from collections.abc import Mapping
from typing import Any

from data_pipelines.codec import CODECS

FORMAT_3 = "bigtrain-shards/3"

_KEYS = frozenset(
    {"name", "resolution", "width", "channels", "classes", "codec", "protocol", "licence", "source", "fields"}
    | {"rejected", "shards"}
)
_KEPT = ("name", "protocol", "licence", "source", "rejected", "shards")


def upgrade(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return today's document of a manifest of format 3.

    Raises:
        ValueError: it is damaged.
    """
    for problem, keys in (("lacks", _KEYS - document.keys()), ("has unknown", document.keys() - _KEYS)):
        if keys:
            raise ValueError(f"the manifest {problem} {', '.join(sorted(keys))}")
    height, width, channels = document["resolution"], document["width"], document["channels"]
    if not _is_size(height):
        raise ValueError("resolution is not a number of pixels")
    if width is not None and not _is_size(width):
        raise ValueError("width is not a number of pixels")
    if channels not in (1, 2, 3, 4):
        raise ValueError("channels is not 1, 2, 3 or 4")
    if document["codec"] not in CODECS:
        raise ValueError(f"codec {document['codec']!r} is not one of {', '.join(CODECS)}")
    shape = [channels, height, width or height]
    fields = {"image": {"kind": "image", "shape": shape, "dtype": "uint8", "codec": document["codec"]}}
    if document["classes"]:
        fields["class"] = {"kind": "class", "shape": [], "dtype": "int64", "classes": document["classes"]}
    return {**{key: document[key] for key in _KEPT}, "fields": fields, "members": document["fields"]}


def downgrade(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the document of format 3 that `upgrade` made this one of, for its digest."""
    image = document["fields"]["image"]
    channels, height, width = image["shape"]
    return {
        **{key: document[key] for key in _KEPT},
        "resolution": height,
        "width": None if width == height else width,
        "channels": channels,
        "classes": document["fields"].get("class", {}).get("classes", []),
        "codec": image["codec"],
        "fields": document["members"],
    }


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
