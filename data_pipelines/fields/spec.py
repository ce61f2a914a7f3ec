"""What a field of a dataset is: the same for all samples, and written into the manifest."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

_NUMBERS = "biufc"
"""NumPy's codes of the types that a field may have: truth values, integers, floating-point and complex numbers."""


@dataclass(frozen=True)
class FieldSpec:
    """A field of every sample.

    Attributes:
        kind: name of the kind, such as `image`; see `data_pipelines.fields.registry`.
        shape: of the decoded array of one sample.
        dtype: NumPy's name of its type.
        classes: names of the classes, in the order of their indices; of kinds `class` and `classes`.
        rate: samples (audio) or frames (video) a second; None where the kind has none, or it is not known.
        codec: how the field is stored, one of the kind's codecs; empty where it is no file (class), or does not matter.
    """

    kind: str
    shape: tuple[int, ...]
    dtype: str
    classes: tuple[str, ...] = ()
    rate: float | None = None
    codec: str = ""

    @property
    def size_words(self) -> str:
        """Return the shape for a person: `3x64x64`, or `one number`."""
        return "x".join(map(str, self.shape)) or "one number"

    def document(self) -> dict[str, Any]:
        """Return what the manifest says of it: what is not there is left out."""
        optional = {"classes": list(self.classes), "rate": self.rate, "codec": self.codec}
        return {
            "kind": self.kind,
            "shape": list(self.shape),
            "dtype": self.dtype,
            **{key: value for key, value in optional.items() if value},
        }

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> "FieldSpec":
        """Build a spec from a manifest's entry.

        Raises:
            ValueError: a key is missing, unknown or of a wrong type; whether the kind can be so, its `check` tells.
        """
        if not isinstance(document, Mapping):
            raise ValueError("is not an object")
        known = {"kind": str, "shape": list, "dtype": str, "classes": list, "rate": int | float, "codec": str}
        for key, value in document.items():
            if key not in known:
                raise ValueError(f"has unknown {key}")
            if not isinstance(value, known[key]):
                raise ValueError(f"{key} is {value!r}")
        if missing := [key for key in ("kind", "shape", "dtype") if key not in document]:
            raise ValueError(f"lacks {', '.join(missing)}")
        if not all(isinstance(size, int) and not isinstance(size, bool) and size > 0 for size in document["shape"]):
            raise ValueError(f"shape is {document['shape']}")
        if not all(isinstance(name, str) for name in document.get("classes", [])):
            raise ValueError("classes is not a list of names")
        check_dtype(document["dtype"])
        optional = {key: document[key] for key in ("rate", "codec") if key in document}
        shape, classes = tuple(document["shape"]), tuple(document.get("classes", ()))
        return cls(document["kind"], shape, document["dtype"], classes, **optional)


def check_dtype(name: str) -> None:
    """Raise ValueError unless `name` is NumPy's own name of a type of numbers, such as `float32`."""
    try:
        dtype = np.dtype(name)
    except TypeError:
        raise ValueError(f"dtype {name!r} is not known to NumPy") from None
    if dtype.kind not in _NUMBERS or dtype.name != name or dtype.itemsize > 16:
        raise ValueError(f"dtype is {name!r}, expected a type of numbers by NumPy's name, such as float32")
