"""Write samples into shards: WebDataset tars, an index beside each, and the manifest over all of them."""

import io
import shutil
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

from data_pipelines.codec import SUFFIXES, Pixels, encode
from data_pipelines.errors import DataError
from data_pipelines.files import sha256_of
from data_pipelines.index import save_index
from data_pipelines.manifest import FILE_NAME, Manifest, Shard


@dataclass(frozen=True)
class Source:
    """Images to be written, and what is known of them.

    Attributes:
        name: of the set.
        samples: pairs of an image (uint8, [C, H, W]) and its class index (-1 if unlabelled).
        count: how many there are.
        classes: names of the classes; empty if unlabelled.
        protocol: how the images were made from the originals.
        licence: of the images.
        origin: where they came from.
    """

    name: str
    samples: Iterable[tuple[Pixels, int]]
    count: int
    classes: tuple[str, ...]
    protocol: str
    licence: str
    origin: str


def write_shards(
    source: Source,
    folder: Path,
    *,
    codec: str = "png",
    shard_samples: int = 1000,
    on_sample: Callable[[], None] = lambda: None,
) -> Manifest:
    """Write all samples of `source` into `folder`, which appears whole or not at all.

    Args:
        source: the images.
        folder: must not exist yet.
        codec: one of `SUFFIXES`.
        shard_samples: samples a shard; the last one may hold fewer.
        on_sample: called after each sample, for progress.

    Raises:
        DataError: the folder exists, the source is empty, or its images differ in shape.
    """
    if codec not in SUFFIXES:
        raise DataError(f"unknown codec {codec!r}: choose one of {', '.join(SUFFIXES)}")
    if shard_samples < 1:
        raise DataError(f"a shard needs at least one sample, got {shard_samples}")
    if folder.exists():
        raise DataError(f"{folder}: exists already; remove it or choose another folder")
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    samples = enumerate(_alike(source))
    shards: list[Shard] = []
    shape: tuple[int, ...] = ()
    while first := next(samples, None):
        shape = first[1][0].shape
        rest = islice(samples, shard_samples - 1)
        shards.append(_write_shard(partial, len(shards), chain([first], rest), codec, len(source.classes), on_sample))
    if not shards:
        raise DataError(f"{source.origin}: no images in it")
    manifest = Manifest(
        name=source.name,
        resolution=shape[1],
        width=None if shape[1] == shape[2] else shape[2],
        channels=shape[0],
        classes=source.classes,
        codec=codec,
        protocol=source.protocol,
        licence=source.licence,
        source=source.origin,
        fields=(),
        rejected=0,
        shards=tuple(shards),
    )
    manifest.save(partial)
    partial.rename(folder)
    return manifest


def _alike(source: Source) -> Iterator[tuple[Pixels, int]]:
    """Iterate over a source's samples, and see that all images have one shape."""
    shape: tuple[int, ...] | None = None
    for number, (image, label) in enumerate(source.samples):
        shape = shape or image.shape
        if image.shape != shape or shape[0] not in (1, 2, 3, 4):
            raise DataError(f"{source.origin}: image {number} has shape {image.shape}; all must be alike")
        yield image, label


def _write_shard(
    folder: Path,
    number: int,
    samples: Iterable[tuple[int, tuple[Pixels, int]]],
    codec: str,
    classes: int,
    on_sample: Callable[[], None],
) -> Shard:
    """Write numbered samples into one tar and its index."""
    path = folder / f"shard-{number:06d}.tar"
    rows: list[tuple[int, int, int, int]] = []
    histogram = [0] * classes
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for key, (image, label) in samples:
            data = encode(image, codec)
            rows.append((_add_member(tar, f"{key:09d}.{SUFFIXES[codec]}", data), len(data), label, zlib.crc32(data)))
            if label >= 0:
                _add_member(tar, f"{key:09d}.cls", str(label).encode())
                histogram[label] += 1
            on_sample()
    index = path.with_suffix(".index.npy")
    save_index(index, rows)
    return Shard(
        url=path.name,
        index=index.name,
        count=len(rows),
        bytes=path.stat().st_size,
        sha256=sha256_of(path),
        class_histogram=tuple(histogram),
    )


def _add_member(tar: tarfile.TarFile, name: str, data: bytes) -> int:
    """Add a member without times or owners, so that equal images make equal tars; return where its data lie."""
    member = tarfile.TarInfo(name)
    member.size = len(data)
    header = tar.offset
    tar.addfile(member, io.BytesIO(data))
    return header + tarfile.BLOCKSIZE


def already_written(folder: Path) -> bool:
    """Tell whether `folder` holds a whole set of shards."""
    return (folder / FILE_NAME).is_file()
