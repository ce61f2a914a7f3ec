"""What every extractor of features offers."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol, Self, runtime_checkable

from torch import Tensor

from bigtrain.evaluation.errors import EvaluationError
from data_pipelines.fields.spec import FieldSpec

FeatureDtype = Literal["fp32", "bf16"]


OWN_LOGITS = "own_logits"
"""Layer of logits of the classes of the data themselves, which a probe has."""


class Extractor(Protocol):
    """A frozen network from images to named layers of features.

    Attributes:
        name: in a config.
        short_name: what names of scores end with; empty for the network of published scores.
        layers: length of the features of each layer that it offers: `pool` (the usual features), `logits` (of classes,
            without a bias), `spatial` (of places in the image).
        preprocessing: what happens to an image before the network, in words; part of a score's protocol.
    """

    name: str
    short_name: str
    layers: Mapping[str, int]
    preprocessing: str

    @property
    def dtype(self) -> FeatureDtype:
        """Precision inside the network."""
        ...

    @property
    def weights_sha256(self) -> str:
        """SHA-256 of the file of weights."""
        ...

    def __call__(self, image: Tensor, layers: Sequence[str] = ("pool",)) -> dict[str, Tensor]:
        """Map uint8 images [N, 1 or 3, H, W] to float32 features [N, F] of each of `layers`."""
        ...


class FeatureNetwork(Extractor, Protocol):
    """An extractor that is a module."""

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """See `nn.Module.to`."""
        ...


@runtime_checkable
class FitsFields(Protocol):
    """An extractor whose layers depend on the field that it looks at."""

    def fit(self, spec: FieldSpec, name: str) -> None:
        """Set the layers.

        Args:
            spec: of the field.
            name: of the field, for messages.

        Raises:
            EvaluationError: it cannot look at such a field.
        """
        ...


def check_field(extractor: Extractor, spec: FieldSpec, name: str) -> None:
    """See that an extractor can look at a field: at images, unless it says in `field` what it looks at, or fits itself.

    Args:
        extractor: any.
        spec: of the field.
        name: of the field, for messages.

    Raises:
        EvaluationError: it looks at something else.
    """
    if isinstance(extractor, FitsFields):
        extractor.fit(spec, name)
        return
    own: FieldSpec | None = getattr(extractor, "field", None)
    if own is None:
        if spec.kind != "image":
            raise EvaluationError(
                f"{extractor.name} reads images, but '{name}' is {spec.kind}: bigtrain probe train DATASET --out "
                "PROBE.safetensors makes an extractor for it, file:PROBE.safetensors"
            )
        return
    if (own.kind, own.shape, own.dtype, own.rate) != (spec.kind, spec.shape, spec.dtype, spec.rate):
        ours, theirs = (f"{one.dtype} {one.kind} of {one.size_words}{_at(one)}" for one in (own, spec))
        raise EvaluationError(f"{extractor.name} reads {ours}, but '{name}' is {theirs}")


def _at(spec: FieldSpec) -> str:
    return f" at {spec.rate:g} per second" if spec.rate else ""


def suffix_of(extractor: Extractor) -> str:
    """Return what names of scores end with: extractor and precision, unless they are those of published scores."""
    parts = [extractor.short_name, "" if extractor.dtype == "fp32" else extractor.dtype]
    return "".join(f"_{part}" for part in parts if part)
