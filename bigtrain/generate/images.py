"""The images that `bigtrain apply` is given: files, folders, archives, datasets, and films, image by image."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from bigtrain.core.errors import UserError
from bigtrain.core.logging import log
from data_pipelines.codec import Pixels
from data_pipelines.content import HEAD, image_format
from data_pipelines.errors import DataError
from data_pipelines.fields.spec import FieldSpec
from data_pipelines.fields.video import VideoError, rate_of
from data_pipelines.manifest import FILE_NAME as MANIFEST
from data_pipelines.manifest import IMAGE
from data_pipelines.order import Location
from data_pipelines.prepare import open_images
from data_pipelines.prepare.names import is_image, stem_of
from data_pipelines.protocol import ImageProtocol, Rejected, measure
from data_pipelines.read import DamageError, ShardDataset
from data_pipelines.source import FileReader, Where
from data_pipelines.source import Source as Images

FILMS = (".mp4", ".mov", ".mkv", ".webm", ".avi")
"""Endings of films."""


class Source(NamedTuple):
    """An image to translate.

    Attributes:
        name: of the output, without ending, relative to the output folder.
        place: where the image is, for messages.
        sample: of a dataset, and the field that is read; None for another source.
        item: of another source, and where its image is there; None for a dataset.
        film: file of a film, whose frames are the images; None for an image.
    """

    name: str
    place: str
    sample: tuple[ShardDataset, str, Location] | None = None
    item: tuple[Images, Where] | None = None
    film: Path | None = None

    @property
    def file(self) -> str:
        """The output's file, relative to the output folder."""
        return f"{self.name}.png" if self.film is None else f"{self.name}.mp4"


def find_sources(inputs: Sequence[str], field: str, spec: FieldSpec) -> list[Source]:
    """List the images to translate, in the order in which people would.

    Args:
        inputs: image files, folders or archives of images, arrays, or datasets.
        field: of the datasets' samples; a dataset without it is read by its field `image`, or its first of images.
        spec: what the network reads.

    Raises:
        UserError: there are none, the network cannot read them, or two would be written to one file.
    """
    sources = [source for one in inputs for source in _sources_in(Path(one), field.rpartition(".")[2], spec)]
    names: dict[str, Source] = {}
    for source in sources:
        if source.name in names:
            both = f"{names[source.name].place} and {source.place}"
            raise UserError(f"{both} would be written to one {source.file}; translate them to two --out folders")
        names[source.name] = source
    if not sources:
        raise UserError(f"{', '.join(inputs)}: no images in it")
    return sources


def _sources_in(path: Path, field: str, spec: FieldSpec) -> Iterator[Source]:
    if (path / MANIFEST).is_file():
        dataset = ShardDataset(path)
        images = {name: found for name, found in dataset.manifest.fields.items() if found.kind == "image"}
        if not images:
            raise UserError(f"{path}: has no field of images, its fields are {', '.join(dataset.manifest.fields)}")
        chosen = field if field in images else IMAGE if IMAGE in images else next(iter(images))
        found = images[chosen]
        if (found.shape[0], found.dtype) != (spec.shape[0], spec.dtype):
            raise UserError(
                f"{path}: the images of '{chosen}' have {found.shape[0]} channels of {found.dtype}, the network reads "
                f"{spec.shape[0]} of {spec.dtype}"
            )
        for number, location in enumerate(dataset.locations()):
            yield Source(f"{number:08d}", f"{path} ({number:08d})", sample=(dataset, chosen, location))
    elif path.is_file() and path.suffix.lower() in FILMS:
        try:
            rate_of(path)
        except VideoError as error:
            raise UserError(f"{path}: {error}") from None
        yield Source(path.stem, str(path), film=path)
    elif path.is_file() and _is_one_image(path):
        only = Images(path.stem, [], FileReader(path.parent), (), "", str(path))
        yield Source(path.stem, str(path), item=(only, path.name))
    else:
        opened = _open_images(path)
        chosen = field if field in opened.images else opened.images[0]
        for item in opened.items:
            where = item.where if chosen == opened.first else item.fields[chosen]
            assert not isinstance(where, bytes)  # as texts are
            name = stem_of(item.name) if is_image(item.name) else item.name
            yield Source(name, f"{path}/{item.name}", item=(opened, where))


def _is_one_image(path: Path) -> bool:
    with path.open("rb") as file:
        return is_image(path.name) or image_format(file.read(HEAD)) is not None


def _open_images(path: Path) -> Images:
    try:
        return open_images(path)
    except DataError as error:
        raise UserError(str(error)) from None


def tell_what_is_left_aside(sources: Sequence[Source]) -> None:
    """Log the other files beside the images, by type."""
    opened = {id(source.item[0]): source.item[0] for source in sources if source.item is not None}
    for images in opened.values():
        aside = [f"ignored: {images.left_aside.words}"] if images.left_aside.total else []
        for words in (*images.notes, *aside):
            log.info("%s: %s", images.origin, words)


def read_source(source: Source, channels: int) -> Pixels:
    """Return an image's pixels, uint8, shape [channels, H, W], upright.

    Raises:
        Rejected: it cannot be read.
    """
    if source.sample is not None:
        dataset, field, location = source.sample
        try:
            pixels: Pixels = dataset.read([location], [field])[field][0]
        except DamageError as error:
            raise Rejected("damaged", str(error)) from None
        return pixels
    assert source.item is not None
    images, where = source.item
    data = images.read(where)
    return ImageProtocol(*measure(data), channels, crop="exact").apply(data)
