"""The interface of derived fields: what they are computed from, and what they are."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar

from torch import Tensor

from bigtrain.core.config import Config
from bigtrain.core.registry import ConfigUnion
from bigtrain.core.rng import Draws
from data_pipelines.fields.spec import FieldSpec


class DerivedField(Config, ABC):
    """A field that is computed on the device from another field of the same sample.

    Its random numbers belong to the sample's position in the run, as all others do: a resumed run, or one on another
    number of ranks, computes the same.

    Attributes:
        invertible: whether `invert` estimates the source. A network that generates such a field is then sampled,
            previewed and scored in the source's field.
        of_whole_images: whether it describes the images of the sample as they are stored, so that it would be wrong for
            mirrored ones and for random crops.
        of: name of the stored field, or of an earlier derived field, from which this field is computed.
    """

    invertible: ClassVar[bool] = False
    of_whole_images: ClassVar[bool] = False

    of: str = "image"

    @abstractmethod
    def spec(self, source: FieldSpec) -> FieldSpec:
        """Return what the field is, from what its source is.

        Raises:
            ValueError: it cannot be computed from such a source.
        """

    @abstractmethod
    def compute(self, field: Tensor, draws: Draws) -> Tensor:
        """Compute the field.

        Args:
            field: the source, normalised as its kind says, shape [N, …].
            draws: one a sample.

        Returns:
            The field, normalised likewise, shape [N, *spec(…).shape].
        """

    def invert(self, field: Tensor, draws: Draws) -> Tensor:
        """Estimate the source of a field, if it is `invertible`; shapes and draws are those of `compute`."""
        raise NotImplementedError


@dataclass(frozen=True)
class DerivedSpec(FieldSpec):
    """The spec of a derived field, which names what computes it."""

    by: DerivedField | None = None


DERIVED: ConfigUnion[DerivedField] = ConfigUnion("bigtrain.derived", DerivedField)
DerivedFieldConfig = Annotated[DerivedField, DERIVED]


def derive(derived: Mapping[str, DerivedField], fields: Mapping[str, Tensor], draws: Draws) -> dict[str, Tensor]:
    """Return fields together with those that are derived from them.

    Args:
        derived: in the order in which they are computed.
        fields: normalised, by name, each [N, …].
        draws: one a sample.
    """
    found = dict(fields)
    for name, one in derived.items():
        found[name] = one.compute(found[one.of], draws.of(f"derived/{name}"))
    return found


def derived_specs(derived: Mapping[str, DerivedField], stored: Mapping[str, FieldSpec]) -> dict[str, DerivedSpec]:
    """Return the specs of derived fields by name.

    Args:
        derived: in the order in which they are computed.
        stored: specs of the fields that the samples have.

    Raises:
        ValueError: a field has the name of another, or cannot be computed; the message begins with its name.
    """
    found = dict(stored)
    made: dict[str, DerivedSpec] = {}
    for name, one in derived.items():
        if name in found:
            raise ValueError(f"{name}: the samples already have a field of this name; choose another")
        if one.of not in found:
            raise ValueError(f"{name}.of: no field '{one.of}' is declared before it; there is {', '.join(found)}")
        try:
            found[name] = made[name] = _by(one, one.spec(found[one.of]))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return made


def inverted(field: Tensor, by: Mapping[str, Any], draws: Draws) -> Tensor:
    """Estimate the source of a field; `by` describes the derived field as JSON does."""
    one: DerivedField = DERIVED.adapter.validate_python(by)
    return one.invert(field, draws)


def computed(field: Tensor, by: Mapping[str, Any], draws: Draws) -> Tensor:
    """Compute a derived field from its source; `by` describes the derived field as JSON does."""
    one: DerivedField = DERIVED.adapter.validate_python(by)
    return one.compute(field, draws)


def _by(derived: DerivedField, spec: FieldSpec) -> DerivedSpec:
    own = {name: value for name, value in vars(spec).items() if name != "by"}
    return DerivedSpec(**own, by=derived)


def image_like(source: FieldSpec, *, channels: int | None = None, scale: int = 1) -> FieldSpec:
    """Return the spec of images with other channels, or smaller by a whole number.

    Raises:
        ValueError: the source is no field of images, or does not divide by the scale.
    """
    if source.kind != "image":
        raise ValueError(f"needs images, but its source has the kind '{source.kind}'")
    own, height, width = source.shape
    if height % scale or width % scale:
        raise ValueError(f"scale {scale} does not divide images of {height}x{width} pixels")
    return replace(source, shape=(channels or own, height // scale, width // scale), dtype="uint8", codec="")


def in_levels(images: Tensor) -> Tensor:
    """Round images in [-1, 1] to the 256 levels of a file, since files are what a trained network will be given."""
    return ((images + 1) * 127.5).round().clamp(0, 255) / 127.5 - 1
