"""From a source and what a user asks for to a finished folder, or two: a test split beside it."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from data_pipelines.codec import CODECS
from data_pipelines.errors import DataError
from data_pipelines.manifest import Manifest
from data_pipelines.pictures import PIXEL_LIMIT
from data_pipelines.preparation import Part, partial_of
from data_pipelines.prepare.names import first_of
from data_pipelines.protocol import (
    CROPS,
    FILTERS,
    MODES,
    TWELVE_BITS,
    Crop,
    Filter,
    ImageProtocol,
    Rejected,
    frames_of,
    largest_of_16_bits,
)
from data_pipelines.source import Source
from data_pipelines.write import ShardOptions, check_kept_files, exact_protocol, write_part, write_shards

_LOOKED_AT = 8


@dataclass(frozen=True)
class PrepareOptions:
    """How a source is prepared; None chooses the default of the source.

    Attributes:
        resolution: height and width; None if all images have the same size, which is kept.
        crop: see `ImageProtocol`.
        filter: see `ImageProtocol`.
        upscale: see `ImageProtocol`.
        channels: number of channels of images, 1 to 4.
        pixel_limit: see `ImageProtocol`.
        codec: one of `CODECS`; None for png, except that existing tars are indexed in place, as with `source`.
        quality: quality of JPEG and WebP, 1 to 100.
        shard_samples: maximum number of samples per shard.
        shard_bytes: approximate number of bytes per shard; if neither is given, a shard has 1,000 samples.
        max_samples: maximum number of samples of the source.
        test_samples: number of samples to hold out in a second folder named DEST-test.
        seed: seed of the shuffle before the samples are divided into shards; None keeps the source's order.
        name: name of the dataset.
        licence: licence of the images.
    """

    resolution: tuple[int, int] | None = None
    crop: Crop | None = None
    filter: Filter = "lanczos"
    upscale: bool = False
    channels: int | None = None
    pixel_limit: int = PIXEL_LIMIT
    codec: str | None = None
    quality: int = 95
    shard_samples: int | None = None
    shard_bytes: int | None = None
    max_samples: int | None = None
    test_samples: int = 0
    seed: int | None = 0
    name: str | None = None
    licence: str | None = None


def prepare(
    source: Source,
    folder: Path,
    options: PrepareOptions,
    *,
    workers: int = 1,
    on_progress: Callable[[int], None] = lambda done: None,
    part: Part | None = None,
) -> dict[Path, Manifest]:
    """Write a source into shards, and a part of it into a test split beside it where that is asked for.

    Args:
        source: the images.
        folder: of the set.
        options: how.
        workers: processes.
        on_progress: called now and then with the number of samples done.
        part: make only this part of the shards; the call without it finishes the sets.

    Returns:
        The manifest of each folder that was made; of a part, none.

    Raises:
        DataError: an option makes no sense, or does not fit the source; see also `write_shards`.
    """
    _check(options)
    in_place = source.spans and options.codec in (None, "source")
    source = replace(source, name=options.name or source.name, licence=options.licence or source.licence)
    if in_place and (options.test_samples or options.max_samples):
        raise DataError(f"{source.origin}: tars are indexed in place as a whole; choose a --codec to write new files")
    protocol = protocol_for(source, options)
    if in_place and protocol is not None:
        check_kept_files(source, protocol)
    codec = options.codec or "png"
    shards = ShardOptions(
        protocol, codec, options.quality, options.shard_samples, options.shard_bytes, in_place=in_place
    )
    made: dict[Path, Manifest] = {}
    before = 0
    for path, samples in _sets_of(source if in_place else _chosen(source, options), folder, options).items():
        counted = _counted_from(before, on_progress)
        if part is None:
            made[path] = write_shards(samples, path, shards, workers=workers, on_progress=counted)
        else:
            write_part(samples, path, part, shards, workers=workers, on_progress=counted)
        before += len(samples.items)
    return {path: made[path] for path in sorted(made, reverse=True)}


def _chosen(source: Source, options: PrepareOptions) -> Source:
    """Return the samples that are taken, in their new order."""
    source = source if options.seed is None else source.shuffled(options.seed)
    return source.split(options.max_samples or len(source.items))[0]


def _sets_of(source: Source, folder: Path, options: PrepareOptions) -> dict[Path, Source]:
    """Return the samples of each folder: of the set, and of its test split where one is held out.

    Raises:
        DataError: too many are to be held out, or the test split's folder is there without the set's.
    """
    if options.test_samples >= len(source.items) > 0:
        raise DataError(f"{source.origin}: cannot hold out {options.test_samples} of {len(source.items)} samples")
    test, rest = source.split(options.test_samples)
    if not test.items:
        return {folder: rest}
    held_out = folder.with_name(f"{folder.name}-test")
    if held_out.exists() and not (folder.exists() or partial_of(folder).exists()):
        raise DataError(f"{held_out}: exists already, and {folder} does not; remove it or choose another folder")
    return {folder: rest, held_out: replace(test, name=f"{source.name}-test")}


def dark_note(source: Source) -> tuple[str, ...]:
    """Return what to tell where the first images are of 16 bits and use 12 of them or less: all of them become dark."""
    largest = []
    for item in source.items[:_LOOKED_AT] if source.images else ():
        try:
            largest.append(largest_of_16_bits(source.read(item.where)))
        except Rejected:
            continue
    found = [value for value in largest if value is not None]
    if not found or max(found) >= TWELVE_BITS:
        return ()
    return (
        f"its images of 16 bits only use values up to {max(found)} and become dark; multiply those of 12 bits by 16 "
        f"before",
    )


def frames_note(source: Source) -> tuple[str, ...]:
    """Return what to tell where some of the first images have several frames or pages."""
    several = []
    for item in source.items[:_LOOKED_AT] if source.images else ():
        with contextlib.suppress(Rejected):
            if (count := frames_of(source.read(item.where))) > 1:
                several.append(f"{item.name}: {count}")
    if not several:
        return ()
    return (
        f"some images have several frames or pages ({first_of(several)}), of which the first is used; videos:PATH "
        "reads .gif files as clips",
    )


def protocol_for(source: Source, options: PrepareOptions) -> ImageProtocol | None:
    """Return the protocol that the options ask for, else the source's usual one; None where there are no images.

    Raises:
        DataError: the images have no size of their own, and none is asked for; or there are none.
    """
    usual = source.usual
    if not source.images:
        kinds = {
            spec.kind for spec in source.fields.values()
        }  # clips have their size and channels already, sounds these
        resizes = options.resolution or options.crop
        if (resizes and "video" not in kinds) or (options.channels and not kinds & {"audio", "video"}):
            raise DataError(f"{source.origin}: has no images that could be resized; it has {', '.join(source.fields)}")
        return None
    if options.resolution is None:
        if options.crop is not None:
            raise DataError(f"a crop '{options.crop}' needs a --resolution")
        if not source.items:
            raise DataError(f"{source.origin}: no images in it")
        usual = usual or exact_protocol(source, pixel_limit=options.pixel_limit)
        return replace(usual, channels=options.channels or usual.channels, pixel_limit=options.pixel_limit)
    height, width = options.resolution
    pads = usual is not None and usual.crop == "pad"
    return ImageProtocol(
        height,
        width,
        options.channels or (usual.channels if usual else 3),
        crop=options.crop or ("pad" if pads else "center"),
        filter=options.filter,
        upscale=options.upscale,
        pixel_limit=options.pixel_limit,
    )


def parse_resolution(text: str) -> tuple[int, int]:
    """Return height and width of `256` or `128x256`.

    Raises:
        DataError: neither.
    """
    height, _, width = text.partition("x")
    if not (height.isdecimal() and (width or height).isdecimal()) or min(int(height), int(width or height)) < 1:
        raise DataError(f"resolution '{text}': write 256, or 128x256 for height x width")
    return int(height), int(width or height)


def parse_bytes(text: str) -> int:
    """Return the number of bytes of `1000000`, `500k`, `256M` or `2G` (powers of 1024).

    Raises:
        DataError: none of these.
    """
    number, unit = (text[:-1], text[-1].lower()) if text[-1:].lower() in ("k", "m", "g") else (text, "")
    if not number.isdecimal() or int(number) < 1:
        raise DataError(f"size '{text}': write a number of bytes, or 500k, 256M, 2G")
    return int(number) << 10 * " kmg".index(unit or " ")


def _counted_from(before: int, on_progress: Callable[[int], None]) -> Callable[[int], None]:
    return lambda done: on_progress(before + done)


def _check(options: PrepareOptions) -> None:
    for what, value, known in (
        ("crop", options.crop, (None, *CROPS[:3])),
        ("filter", options.filter, FILTERS),
        ("codec", options.codec, (None, *CODECS)),
        ("number of channels", options.channels, (None, *MODES)),
    ):
        if value not in known:
            raise DataError(f"unknown {what} '{value}': choose one of {', '.join(str(word) for word in known if word)}")
    if options.max_samples is not None and options.max_samples < 1:
        raise DataError("a dataset has at least one sample")
    if options.test_samples < 0 or (options.seed is not None and options.seed < 0):
        raise DataError("the number of test samples and the seed are 0 or more")
