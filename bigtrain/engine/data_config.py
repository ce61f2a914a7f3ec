"""The config of the training samples: one stream, or several that advance together, each of any kind."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag, field_validator

from bigtrain.augment.derived.base import DerivedField
from bigtrain.core.config import Config
from bigtrain.engine.blend_config import BlendConfig
from bigtrain.engine.shards_config import ShardsConfig
from bigtrain.engine.stream_config import NAME
from bigtrain.engine.tars_config import TarsConfig
from data_pipelines.fields.spec import FieldSpec


def kind(data: Any) -> str:
    """Return the kind of a stream's config; those without one are shards, or several streams."""
    if isinstance(data, Mapping):
        return "several" if "streams" in data else str(data.get("kind", "shards"))
    return "several" if isinstance(data, StreamsConfig) else str(getattr(data, "kind", "shards"))


_Shards = Annotated[ShardsConfig, Tag("shards")]
_Tars = Annotated[TarsConfig, Tag("webdataset")]
_Blend = Annotated[BlendConfig, Tag("blend")]
_AnyStream = Annotated[_Shards | _Tars | _Blend, Discriminator(kind)]
"""A stream of any kind: a new kind is a file for its config, and an entry here."""


class StreamsConfig(Config):
    """The training samples, from several streams that advance together.

    Attributes:
        streams: streams by name. A field is named after its stream and itself: `A.image`, `A.class`, `B.image`.
    """

    streams: dict[Annotated[str, Field(pattern=NAME)], _AnyStream]

    @field_validator("streams")
    @classmethod
    def _are_several(cls, streams: dict[str, _AnyStream]) -> dict[str, _AnyStream]:
        if len(streams) < 2:
            raise ValueError("list two streams or more; the keys of a single stream are written directly below data")
        if len({(stream.reading.loader, stream.workers) for stream in streams.values()}) > 1:
            raise ValueError("loader and workers must be the same in all streams")
        return streams

    @property
    def paths(self) -> tuple[str, ...]:
        """Where the data are, each place once."""
        return tuple(dict.fromkeys(path for stream in self.streams.values() for path in stream.paths))

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


AnyDataConfig = Annotated[_Shards | _Tars | _Blend | Annotated[StreamsConfig, Tag("several")], Discriminator(kind)]
"""What the key `data` may be."""
