"""What becomes of a sample's fields on their way from a source into a shard."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_pipelines.codec import SUFFIXES, encode
from data_pipelines.fields.registry import kind_of
from data_pipelines.fields.spec import FieldSpec
from data_pipelines.index import index_dtype, index_dtype_3
from data_pipelines.manifest import FORMAT
from data_pipelines.manifest_v3 import FORMAT_3
from data_pipelines.protocol import ImageProtocol, Rejected, measure
from data_pipelines.source import Item, Reader, read_from

_OPTIONAL = ("text",)
"""Kinds of which a sample may have none."""


class File(NamedTuple):
    """A member of a tar.

    Attributes:
        extension: behind the sample's key.
        content: empty where the sample has none.
    """

    extension: str
    content: bytes


@dataclass(frozen=True)
class Encoding:
    """What becomes of a sample.

    Attributes:
        images: names of the fields that are images.
        fields: those of other kinds, and images that are arrays already.
        members: names of further members.
        protocol: size, crop and mode of the images; None where there are none.
        codec: of the images, one of `CODECS`; `source` keeps the files as they are.
        quality: of JPEG and WebP.
        format: of the set.
    """

    images: tuple[str, ...]
    fields: Mapping[str, FieldSpec]
    members: tuple[str, ...]
    protocol: ImageProtocol | None
    codec: str
    quality: int
    format: str = FORMAT

    @property
    def first(self) -> str:
        """Name of the field that `where` of the items leads to."""
        return (*self.images, *self.fields)[0]

    @property
    def stored(self) -> tuple[str, ...]:
        """Names of the fields that are members of the tars, in the order of the index."""
        return tuple(sorted((*self.images, *self.fields)))

    @property
    def index_dtype(self) -> np.dtype[np.void]:
        """Type of a row of the shards' indexes."""
        return index_dtype_3() if self.format == FORMAT_3 else index_dtype(self.stored, self.members)

    @property
    def words(self) -> str:
        """What is done to images, for the manifest; empty where there are none."""
        if self.protocol is None:
            return ""
        if self.codec == "source":
            return f"kept/{self.protocol.size_words} (files as they were, of this size and mode and upright)"
        quality = f"; {self.codec} of quality {self.quality}" if self.codec in ("jpeg", "webp") else ""
        return self.protocol.words + quality

    def specs(self) -> dict[str, FieldSpec]:
        """Return the specs of all stored fields."""
        images = {}
        if self.protocol is not None:
            shape = (self.protocol.channels, self.protocol.height, self.protocol.width)
            images = dict.fromkeys(self.images, FieldSpec("image", shape, "uint8", codec=self.codec))
        return {**images, **self.fields}

    def files_of(self, reader: Reader, item: Item, *, in_place: bool = False) -> dict[str, File]:
        """Return an item's files by the names of the fields, then of the members; the first field comes first.

        Args:
            reader: of the item.
            item: a sample.
            in_place: the files stay what and where they are; see that they are fit to.

        Raises:
            Rejected: it does not get into the set.
        """
        contents = {name: _content(reader, item, name, name == self.first) for name in (*self.images, *self.fields)}
        files = {}
        if len(self.images) > 1:
            self._check_sizes(contents)
        for name in self.images:
            suffix, data = self._image(_required(name, contents[name]))
            files[name] = File(_extension(name, "image", suffix), data)
        for name, spec in self.fields.items():
            data = _file(name, spec, contents[name], in_place)
            files[name] = File(_extension(name, spec.kind, kind_of(spec).suffix(spec)), data)
        for name in self.members:
            content = _content(reader, item, name, False)
            files[name] = File(name, content if isinstance(content, bytes) else b"")
        return files

    def _image(self, image: bytes | NDArray[Any]) -> tuple[str, bytes]:
        """Return the file extension and the bytes of an image."""
        assert self.protocol is not None
        if self.codec == "source":
            if not isinstance(image, bytes):
                raise Rejected("format", "pixels, not a file")
            return self.protocol.check_untouched(image), image
        return SUFFIXES[self.codec], encode(self.protocol.apply(image), self.codec, quality=self.quality)

    def _check_sizes(self, contents: Mapping[str, bytes | NDArray[Any] | None]) -> None:
        """Reject a sample whose images differ in size: cut and resized alike, they would no longer fit together."""
        assert self.protocol is not None
        images = {name: _required(name, contents[name]) for name in self.images}
        sizes = {name: measure(image, self.protocol.pixel_limit) for name, image in images.items()}
        if len(set(sizes.values())) > 1:
            words = ", ".join(f"{name} is {height}x{width}" for name, (height, width) in sizes.items())
            raise Rejected("size", f"{words}: the images of a sample must have one size")


def _content(reader: Reader, item: Item, name: str, first: bool) -> bytes | NDArray[Any] | None:
    """Return what a source has of a field; None if it has nothing."""
    where = item.where if first else item.fields.get(name)
    if where is None or isinstance(where, bytes):
        return where
    return read_from(reader, where)


def _required(name: str, content: bytes | NDArray[Any] | None) -> bytes | NDArray[Any]:
    if content is None:
        raise Rejected("missing", f"the sample has no {name}")
    return content


def _file(name: str, spec: FieldSpec, content: bytes | NDArray[Any] | None, in_place: bool) -> bytes:
    """Return the file of a field that is no image from a file."""
    if content is None and spec.kind in _OPTIONAL:
        return b""
    content, kind = _required(name, content), kind_of(spec)
    try:
        if isinstance(content, bytes) and in_place:
            kind.decoder(spec).decode(memoryview(content), np.empty(spec.shape, spec.dtype))
            return content
        return kind.encode(spec, kind.read(spec, content) if isinstance(content, bytes) else content)
    except ValueError as error:
        raise Rejected("format", f"{name}: {error}") from None


def _extension(name: str, kind: str, suffix: str) -> str:
    """Return what comes behind a sample's key: just the suffix where the field is called like its kind, or like it."""
    return suffix if name in (kind, suffix) else f"{name}.{suffix}"
