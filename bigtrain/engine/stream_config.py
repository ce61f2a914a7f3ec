"""What all kinds of streams of training samples have in common, whatever they are read from."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from bigtrain.augment.derived import DerivedFieldConfig
from bigtrain.augment.derived.base import DerivedField, derived_specs
from bigtrain.core.config import Config
from bigtrain.core.names import NameOf
from data_pipelines.batches import BatchPlan, CachePlan, OnCorrupt
from data_pipelines.fields.registry import find_kind, kind_names
from data_pipelines.fields.spec import FieldSpec
from data_pipelines.remote import RetryPolicy
from data_pipelines.stream import Loader


class CacheConfig(Config):
    """Where remote shards are stored on this machine.

    Attributes:
        folder: folder of the cache; null for `shards` in $BIGTRAIN_CACHE or ~/.cache/bigtrain.
        max_bytes: maximum size of the cache; it must be large enough for twice the window's shards.
        patience_seconds: how long requests to a server that does not answer are repeated before the run ends, to be
            restarted; with a watchdog at most four fifths of `watchdog.step_seconds`.
    """

    folder: str | None = None
    max_bytes: PositiveInt = 100 * 2**30
    patience_seconds: NonNegativeFloat = RetryPolicy.patience_s


class FieldConfig(Config):
    """One field of the samples, for datasets with other fields than an image and its class.

    Attributes:
        kind: kind of the field, see docs/how-to/data.md.
        channels: number of channels of images; null for that of the stream.
        resolution: height of images; null for that of the stream.
        width: width of images; null for that of the stream, or for square images if `resolution` is given.
        classes: number of classes, for the kinds `class` and `classes`.
        shape: shape of a sample's array, for the other kinds.
        dtype: NumPy name of the array's type, for images and the other kinds; null for the default of the kind.
        rate: samples of sounds or frames of clips per second, which the dataset must have; null for any.
    """

    kind: Annotated[str, NameOf("kind of field", kind_names)] = "image"
    channels: PositiveInt | None = None
    resolution: PositiveInt | None = None
    width: PositiveInt | None = None
    classes: PositiveInt | None = None
    shape: tuple[PositiveInt, ...] | None = None
    dtype: str | None = None
    rate: PositiveFloat | None = None

    @model_validator(mode="after")
    def _says_what_its_kind_needs(self) -> Self:
        if self.kind in ("class", "classes") and self.classes is None:
            raise ValueError(f"kind '{self.kind}' needs the key classes: the number of classes")
        if self.kind not in ("image", "class", "classes") and self.shape is None:
            raise ValueError(f"kind '{self.kind}' needs the key shape: that of one sample, such as [16, 8, 8]")
        if self.rate is not None and not find_kind(self.kind).has_rate:
            raise ValueError(f"rate: fields of the kind '{self.kind}' have no sample rate")
        return self

    @property
    def needs_a_size(self) -> bool:
        """Whether it is an image whose height the stream must say."""
        return self.kind == "image" and self.shape is None and self.resolution is None


NAME = r"^[A-Za-z][A-Za-z0-9_]*$"
"""Of fields and streams, as a config's key and a dotted name can hold them."""


@dataclass(frozen=True)
class Share:
    """A rank's share of every batch, and of what run; a plan is made for it.

    Attributes:
        seed: of the run.
        global_batch: samples of a step over all ranks.
        held_out: share of the samples that are not trained on.
        rank: whose share it is.
        world_size: number of ranks.
        pieces: micro-batches a step.
        total: samples of the whole run.
    """

    seed: int
    global_batch: int
    held_out: float = 0.0
    rank: int = 0
    world_size: int = 1
    pieces: int = 1
    total: int = 1


@dataclass(frozen=True)
class Reading:
    """How a stream is read, as far as others must know.

    Attributes:
        window: shards that are shuffled together, in each lane.
        lanes: parts of an epoch that a batch is read from.
        loader: what reads.
        workers: how many of them a rank has.
        crop: how stored images are cut to the size of the config.
    """

    window: int = 1
    lanes: int = 1
    loader: Loader = "threads"
    workers: int = 1
    crop: Literal["center", "random"] | None = None


class StreamConfig(Config, ABC):
    """A stream of training samples; the kinds of streams are subclasses.

    Attributes:
        resolution: height of the images, and their width unless `width` is given; null if no field is an image.
        width: width of images that are not square; null for square images.
        channels: 1 (grey), 2 (grey and alpha), 3 (RGB) or 4 (RGB and alpha).
        classes: number of classes of a conditional network; 0 ignores the labels.
        fields: fields that are read, by name; null for `image`, and `class` if there are classes.
        derived: fields that are computed from those, by name, in this order: a smaller, degraded or grey image, for
            example.
        label_dropout: share of the images that are shown without their label.
        flip: whether half of the samples are mirrored horizontally, with all image fields of a sample alike.
        workers: number of threads or processes per rank that read and decode.
        on_corrupt: `replace` shows another sample in place of a damaged one, and reports it; `fail` ends the run.
        cache: cache for remote shards.
    """

    resolution: PositiveInt | None = None
    width: PositiveInt | None = None
    channels: Annotated[int, Field(ge=1, le=4)] = 3
    classes: Annotated[int, Field(ge=0)] = 0
    fields: dict[str, FieldConfig] | None = None
    derived: dict[Annotated[str, Field(pattern=NAME)], DerivedFieldConfig] = Field(default_factory=dict)
    label_dropout: Annotated[float, Field(ge=0, le=1)] = 0.0
    flip: bool = False
    workers: PositiveInt = 1
    on_corrupt: OnCorrupt = "replace"
    cache: CacheConfig = CacheConfig()

    @property
    @abstractmethod
    def place(self) -> str:
        """Where the samples are, for people."""

    @property
    @abstractmethod
    def reading(self) -> Reading:
        """How it is read."""

    @abstractmethod
    def plan(self, share: Share) -> BatchPlan:
        """Return what is in a rank's batches, each cut into so many micro-batches."""

    @model_validator(mode="after")
    def _images_have_a_size(self) -> Self:
        if self.resolution is None and (self.fields is None or any(one.needs_a_size for one in self.fields.values())):
            raise ValueError("resolution is missing: the height of the images in pixels, such as 64")
        return self

    @model_validator(mode="after")
    def _derives_what_it_can(self) -> Self:
        try:
            self.derived_specs()
        except ValueError as error:
            raise ValueError(f"derived.{error}") from None
        for name, one in self.derived.items():
            if one.of_whole_images and (self.flip or self.reading.crop is not None):
                key, does = ("flip", "mirrors") if self.flip else ("crop", "crops")
                raise ValueError(f"{key}: {does} images, but not '{one.of}', from which derived.{name} is computed")
        return self

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images; 0 where no field is an image."""
        return self.resolution or 0, self.width or self.resolution or 0

    def specs(self) -> dict[str, FieldSpec]:
        """Return the fields that are read of each sample; names of classes are their numbers."""
        if self.fields is None:
            image = {"image": FieldSpec("image", (self.channels, *self.size), "uint8")}
            return image | ({"class": FieldSpec("class", (), "int64", _numbers(self.classes))} if self.classes else {})
        return {name: self._spec(field) for name, field in self.fields.items()}

    def derived_specs(self) -> Mapping[str, FieldSpec]:
        """Return the fields that are computed from those which are read."""
        return derived_specs(self.derived, self.specs())

    def _spec(self, field: FieldConfig) -> FieldSpec:
        if field.kind == "class":
            return FieldSpec("class", (), "int64", _numbers(field.classes or 0))
        if field.kind == "classes":
            return FieldSpec("classes", (field.classes or 0,), "float32", _numbers(field.classes or 0))
        shape, dtype = field.shape, field.dtype or find_kind(field.kind).usual_dtype
        if field.kind == "image" and shape is None:
            height = field.resolution or self.size[0]
            width = field.width or (field.resolution or self.size[1])
            shape = (field.channels or self.channels, height, width)
        return FieldSpec(field.kind, shape or (), dtype, rate=field.rate)

    @property
    def streams(self) -> Mapping[str, "StreamConfig"]:
        """The one stream of a run that has no others; it has no name."""
        return {"": self}

    @property
    def paths(self) -> tuple[str, ...]:
        """Folders and URLs of the data."""
        return (self.place,)

    def field_specs(self) -> dict[str, FieldSpec]:
        """Return all fields of a batch by name."""
        return {**self.specs(), **self.derived_specs()}

    def derived_fields(self) -> dict[str, DerivedField]:
        """Return the fields of a batch that are computed from others, by name."""
        return self.derived

    def common(self, share: Share) -> dict[str, Any]:
        """Return what the plans of all kinds of streams are made of."""
        return {
            "place": self.place,
            "seed": share.seed,
            "global_batch": share.global_batch,
            "rank": share.rank,
            "world_size": share.world_size,
            "pieces": share.pieces,
            "held_out": share.held_out,
            "on_corrupt": self.on_corrupt,
            "cache": self.cache_plan(),
            "fields": tuple(self.specs()),
        }

    def cache_plan(self) -> CachePlan:
        """Return where fetched files are kept."""
        return CachePlan(self.cache.folder or "", self.cache.max_bytes, self.cache.patience_seconds)


def _numbers(count: int) -> tuple[str, ...]:
    return tuple(map(str, range(count)))
