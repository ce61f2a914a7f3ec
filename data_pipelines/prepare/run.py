"""From a source and what a user asks for to a finished folder, or two: a test split beside it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from data_pipelines.codec import CODECS
from data_pipelines.errors import DataError
from data_pipelines.manifest import Manifest
from data_pipelines.protocol import CROPS, FILTERS, MODES, PIXEL_LIMIT, Crop, Filter, Protocol
from data_pipelines.source import Source
from data_pipelines.write import exact_protocol, write_shards


@dataclass(frozen=True)
class Wishes:
    """What a user asks for; None leaves it to the source.

    Attributes:
        resolution: height and width; None: the images have one size, and keep it.
        crop: see `Protocol`.
        filter: see `Protocol`.
        upscale: see `Protocol`.
        channels: 1 to 4.
        pixel_limit: see `Protocol`.
        codec: one of `CODECS`; None: png, and tars of others are indexed in place, as they are with `source`.
        quality: of JPEG and WebP.
        shard_samples: samples a shard, at most.
        shard_bytes: bytes a shard, about; where neither is given, a shard has 1,000 samples.
        max_samples: take no more than this many of the source.
        test_samples: hold this many out, in a second folder named DEST-test.
        seed: of the shuffle before the shards are cut; None keeps the source's order.
        name: of the set.
        licence: of the images.
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
    wishes: Wishes,
    *,
    workers: int = 1,
    on_progress: Callable[[int], None] = lambda done: None,
) -> dict[Path, Manifest]:
    """Write a source into shards, as the user wishes.

    Args:
        source: the images.
        folder: of the set.
        wishes: of the user.
        workers: processes.
        on_progress: called now and then with the number of samples done.

    Returns:
        The manifest of each folder that was made.

    Raises:
        DataError: a wish makes no sense, or does not fit the source; see also `write_shards`.
    """
    _check(wishes)
    in_place = source.spans and wishes.codec in (None, "source")
    source = replace(source, name=wishes.name or source.name, licence=wishes.licence or source.licence)
    if in_place and (wishes.test_samples or wishes.max_samples):
        raise DataError(f"{source.origin}: tars are indexed in place, whole; choose a codec to write samples anew")
    protocol = protocol_for(source, wishes)
    if not in_place:
        source = source if wishes.seed is None else source.shuffled(wishes.seed)
        source, _ = source.split(wishes.max_samples or len(source.items))
    if wishes.test_samples >= len(source.items) > 0:
        raise DataError(f"{source.origin}: cannot hold out {wishes.test_samples} of {len(source.items)} samples")
    test, rest = source.split(wishes.test_samples)
    parts = {folder.with_name(f"{folder.name}-test"): replace(test, name=f"{source.name}-test"), folder: rest}
    made: dict[Path, Manifest] = {}
    before = 0
    for path, part in parts.items():
        if path != folder and not part.items:
            continue
        made[path] = write_shards(
            part,
            path,
            protocol=protocol,
            codec=wishes.codec or "png",
            quality=wishes.quality,
            shard_samples=wishes.shard_samples,
            shard_bytes=wishes.shard_bytes,
            in_place=in_place,
            workers=workers,
            on_progress=_counted_from(before, on_progress),
        )
        before += len(part.items)
    return made


def protocol_for(source: Source, wishes: Wishes) -> Protocol | None:
    """Return the protocol that a user wishes for, where he says nothing the source's usual one; None without images.

    Raises:
        DataError: the images have no size of their own, and none is asked for; or there are none.
    """
    usual = source.usual
    if not source.images:
        if wishes.resolution or wishes.crop or wishes.channels:
            raise DataError(f"{source.origin}: has no images that could be resized; it has {', '.join(source.fields)}")
        return None
    if wishes.resolution is None:
        if wishes.crop is not None:
            raise DataError(f"a crop '{wishes.crop}' needs a resolution")
        if not source.items:
            raise DataError(f"{source.origin}: no images in it")
        usual = usual or exact_protocol(source, pixel_limit=wishes.pixel_limit)
        return replace(usual, channels=wishes.channels or usual.channels, pixel_limit=wishes.pixel_limit)
    height, width = wishes.resolution
    pads = usual is not None and usual.crop == "pad"
    return Protocol(
        height,
        width,
        wishes.channels or (usual.channels if usual else 3),
        crop=wishes.crop or ("pad" if pads else "center"),
        filter=wishes.filter,
        upscale=wishes.upscale,
        pixel_limit=wishes.pixel_limit,
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


def _check(wishes: Wishes) -> None:
    for what, value, known in (
        ("crop", wishes.crop, (None, *CROPS[:3])),
        ("filter", wishes.filter, FILTERS),
        ("codec", wishes.codec, (None, *CODECS)),
        ("number of channels", wishes.channels, (None, *MODES)),
    ):
        if value not in known:
            raise DataError(f"unknown {what} '{value}': choose one of {', '.join(str(word) for word in known if word)}")
    if wishes.max_samples is not None and wishes.max_samples < 1:
        raise DataError("a set has at least one sample")
    if wishes.test_samples < 0 or (wishes.seed is not None and wishes.seed < 0):
        raise DataError("the number of test samples and the seed are 0 or more")
