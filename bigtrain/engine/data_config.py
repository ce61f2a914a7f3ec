"""The config of the training samples: the streams, their fields, and how often samples come."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Discriminator,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Tag,
    field_validator,
    model_validator,
)

from bigtrain.augment.derived import DerivedFieldConfig
from bigtrain.augment.derived.base import DerivedField, derived_specs
from bigtrain.core.config import Config
from bigtrain.core.names import NameOf
from data_pipelines.batches import BatchPlan, CachePlan, OnCorrupt
from data_pipelines.fields.registry import kind_names
from data_pipelines.fields.spec import FieldSpec
from data_pipelines.remote import RetryPolicy
from data_pipelines.sampling import Shares
from data_pipelines.secrets import refuse_secrets
from data_pipelines.stream import Loader


class ShuffleSampling(Config):
    """Every image once an epoch."""

    kind: Literal["shuffle"]

    @property
    def shares(self) -> Shares | None:
        """The shares of the classes; None for those of the dataset."""
        return None


class BalancedSampling(Config):
    """Every class as often as any other."""

    kind: Literal["balanced"]

    @property
    def shares(self) -> Shares | None:
        """Equal shares of all classes."""
        return Shares({})


class WeightedSampling(Config):
    """Classes in given shares.

    Attributes:
        weights: of classes, by name, in any unit; 0 leaves a class out.
        others: weight of every class that is not named.
    """

    kind: Literal["weighted"]
    weights: dict[str, NonNegativeFloat]
    others: NonNegativeFloat = 1.0

    @property
    def shares(self) -> Shares | None:
        """The given shares of the classes."""
        return Shares(self.weights, self.others)


class CacheConfig(Config):
    """Where shards that lie elsewhere are kept on this machine.

    Attributes:
        folder: null for `shards` in $BIGTRAIN_CACHE or ~/.cache/bigtrain.
        max_bytes: what they may take together; it must hold twice the window's shards.
        patience_seconds: how long a server that does not answer is asked again before the run ends, to be started
            again; a run with a watchdog takes at most four fifths of `watchdog.step_seconds`.
    """

    folder: str | None = None
    max_bytes: PositiveInt = 100 * 2**30
    patience_seconds: NonNegativeFloat = RetryPolicy.patience_s


class FieldConfig(Config):
    """A field of every sample, where a dataset has others than an image and its class.

    Attributes:
        kind: of the field, see docs/how-to/data.md.
        channels: of images; null for the stream's.
        resolution: height of images; null for the stream's.
        width: of images; null for the stream's, or square ones where `resolution` is given.
        classes: number of classes, of the kinds `class` and `classes`.
        shape: of a sample's array, of the other kinds.
        dtype: NumPy's name of its type, of images and the other kinds; null for the kind's usual one.
        rate: samples (audio) or frames (video) a second, which the dataset must have; null for any.
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
            raise ValueError(f"kind '{self.kind}' needs classes: how many there are")
        if self.kind not in ("image", "class", "classes") and self.shape is None:
            raise ValueError(f"kind '{self.kind}' needs shape: of one sample, such as [16, 8, 8]")
        if self.kind not in ("audio", "video") and self.rate is not None:
            raise ValueError(f"rate: kind '{self.kind}' has none")
        return self


_NAME = r"^[A-Za-z][A-Za-z0-9_]*$"
"""Of fields and streams, as a config's key and a dotted name can hold them."""

_USUAL_DTYPES = {"image": "uint8", "text": "uint8", "array": "float32", "audio": "int16", "video": "uint8"}


class StreamConfig(Config):
    """A stream of training samples.

    Attributes:
        path: folder of shards, see `bigtrain data prepare`; or its URL, `http(s)://` or `s3://`.
        resolution: of the images, the shards must have it; null where no field is an image.
        width: of images that are not square, whose height is `resolution`; null for square ones.
        channels: 1 (grey), 2 (grey and alpha), 3 (RGB) or 4 (RGB and alpha); the shards must have them.
        classes: how many, for a conditional network; 0 ignores the labels.
        fields: what is read of each sample, by name; null for `image`, and `class` where there are classes.
        derived: fields that are computed from those, by name, in this order: a smaller, damaged or colourless image.
        sampling: how often images come.
        max_images: train on a random subset of so many; a smaller one is part of a larger one; null for all.
        label_dropout: share of the images that are shown without their label.
        crop: what shards of larger images are cut to `resolution` and `width` by: `random` cuts anew each time an
            image is shown, `center` in the middle, as evaluation does in both cases; null for shards of just that size.
        flip: mirror half of the samples, left to right: all image fields of a sample alike.
        window: shards that are shuffled together, in each lane.
        lanes: parts of an epoch that a batch is read from. With as many as nodes, or a multiple, each node reads its
            part of the shards instead of all; each lane keeps twice the window's shards at hand. Must divide
            `global_batch`. It is a part of the order: a run keeps it on any number of nodes.
        loader: threads start at once; processes leave the interpreter to the training.
        workers: threads or processes a rank that read and decode.
        on_corrupt: `replace` shows another sample in the place of a damaged one, and reports it; `fail` ends the run.
        cache: for a path that is a URL, and for shards that lie elsewhere.
    """

    path: str
    resolution: PositiveInt | None = None
    width: PositiveInt | None = None
    channels: Annotated[int, Field(ge=1, le=4)] = 3
    classes: Annotated[int, Field(ge=0)] = 0
    fields: dict[str, FieldConfig] | None = None
    derived: dict[Annotated[str, Field(pattern=_NAME)], DerivedFieldConfig] = Field(default_factory=dict)
    sampling: Annotated[ShuffleSampling | BalancedSampling | WeightedSampling, Field(discriminator="kind")] = (
        ShuffleSampling(kind="shuffle")
    )
    max_images: PositiveInt | None = None
    label_dropout: Annotated[float, Field(ge=0, le=1)] = 0.0
    crop: Literal["center", "random"] | None = None
    flip: bool = False
    window: PositiveInt = 8
    lanes: PositiveInt = 1
    loader: Loader = "threads"
    workers: PositiveInt = 1
    on_corrupt: OnCorrupt = "replace"
    cache: CacheConfig = CacheConfig()

    @field_validator("path")
    @classmethod
    def _holds_no_secret(cls, path: str) -> str:
        return refuse_secrets(path, "use ~/.netrc for http(s)://, $AWS_ACCESS_KEY_ID and its like for s3://")

    @model_validator(mode="after")
    def _images_have_a_size(self) -> Self:
        if self.resolution is None and (self.fields is None or any(map(_needs_a_size, self.fields.values()))):
            raise ValueError("resolution is missing: the height of the images in pixels, such as 64")
        return self

    @model_validator(mode="after")
    def _derives_what_it_can(self) -> Self:
        try:
            self.derived_specs()
        except ValueError as error:
            raise ValueError(f"derived.{error}") from None
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

    def derived_specs(self) -> dict[str, FieldSpec]:
        """Return the fields that are computed from those which are read."""
        return derived_specs(self.derived, self.specs())

    def _spec(self, field: FieldConfig) -> FieldSpec:
        if field.kind == "class":
            return FieldSpec("class", (), "int64", _numbers(field.classes or 0))
        if field.kind == "classes":
            return FieldSpec("classes", (field.classes or 0,), "float32", _numbers(field.classes or 0))
        shape, dtype = field.shape, field.dtype or _USUAL_DTYPES.get(field.kind, "float32")
        if field.kind == "image" and shape is None:
            height = field.resolution or self.size[0]
            width = field.width or (field.resolution or self.size[1])
            shape = (field.channels or self.channels, height, width)
        return FieldSpec(field.kind, shape or (), dtype, rate=field.rate)

    def plan(
        self,
        *,
        seed: int,
        global_batch: int,
        held_out: float,
        rank: int = 0,
        world_size: int = 1,
        pieces: int = 1,
    ) -> BatchPlan:
        """Return what is in a rank's batches, each cut into so many micro-batches."""
        return BatchPlan(
            place=self.path,
            seed=seed,
            global_batch=global_batch,
            rank=rank,
            world_size=world_size,
            pieces=pieces,
            window=self.window,
            lanes=self.lanes,
            shares=self.sampling.shares,
            max_images=self.max_images,
            held_out=held_out,
            on_corrupt=self.on_corrupt,
            cache=CachePlan(self.cache.folder or "", self.cache.max_bytes, self.cache.patience_seconds),
        )


def _needs_a_size(field: FieldConfig) -> bool:
    return field.kind == "image" and field.shape is None and field.resolution is None


def _numbers(count: int) -> tuple[str, ...]:
    return tuple(map(str, range(count)))


class DataConfig(StreamConfig):
    """The training samples, of one stream."""

    @property
    def streams(self) -> Mapping[str, StreamConfig]:
        """The one stream, which has no name."""
        return {"": self}

    @property
    def paths(self) -> tuple[str, ...]:
        """Where the data are."""
        return (self.path,)

    def field_specs(self) -> dict[str, FieldSpec]:
        """Return all fields of a batch by name."""
        return {**self.specs(), **self.derived_specs()}

    def derived_fields(self) -> dict[str, DerivedField]:
        """Return the fields of a batch that are computed from others, by name."""
        return self.derived


class StreamsConfig(Config):
    """The training samples, of several streams that advance together.

    Attributes:
        streams: by name. A field is called by its stream and its name: `A.image`, `A.class`, `B.image`.
    """

    streams: dict[Annotated[str, Field(pattern=_NAME)], StreamConfig]

    @field_validator("streams")
    @classmethod
    def _are_several(cls, streams: dict[str, StreamConfig]) -> dict[str, StreamConfig]:
        if len(streams) < 2:
            raise ValueError("name two streams or more, or write the keys of the only one into data itself")
        if len({(stream.loader, stream.workers) for stream in streams.values()}) > 1:
            raise ValueError("loader and workers must be the same in all streams")
        return streams

    @property
    def paths(self) -> tuple[str, ...]:
        """Where the data are, each place once."""
        return tuple(dict.fromkeys(stream.path for stream in self.streams.values()))

    def field_specs(self) -> dict[str, FieldSpec]:
        """Return all fields of a batch by name."""
        return {
            f"{name}.{field}": spec
            for name, stream in self.streams.items()
            for field, spec in {**stream.specs(), **stream.derived_specs()}.items()
        }

    def derived_fields(self) -> dict[str, DerivedField]:
        """Return the fields of a batch that are computed from others, by name."""
        return {
            f"{name}.{field}": derived.model_copy(update={"of": f"{name}.{derived.of}"})
            for name, stream in self.streams.items()
            for field, derived in stream.derived.items()
        }


def _one_or_several(data: Any) -> str:
    several = "streams" in data if isinstance(data, Mapping) else isinstance(data, StreamsConfig)
    return "several" if several else "one"


AnyDataConfig = Annotated[
    Annotated[DataConfig, Tag("one")] | Annotated[StreamsConfig, Tag("several")], Discriminator(_one_or_several)
]
