"""Write samples into shards: WebDataset tars, an index beside each, and the manifest over all of them."""

import io
import shutil
import tarfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from data_pipelines.codec import CODECS, Pixels, encode
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
        codec: `png` or `npy`.
        shard_samples: samples a shard; the last one may hold fewer.
        on_sample: called after each sample, for progress.

    Raises:
        DataError: the folder exists, the source is empty, or its images differ in shape.
    """
    if codec not in CODECS:
        raise DataError(f"unknown codec {codec!r}: choose one of {', '.join(CODECS)}")
    if shard_samples < 1:
        raise DataError(f"a shard needs at least one sample, got {shard_samples}")
    if folder.exists():
        raise DataError(f"{folder}: exists already; remove it or choose another folder")
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    shape: tuple[int, ...] | None = None
    shards: list[Shard] = []
    writer: _ShardWriter | None = None
    for number, (image, label) in enumerate(source.samples):
        shape = shape or image.shape
        if image.shape != shape or shape[0] not in (1, 3) or shape[1] != shape[2]:
            raise DataError(f"{source.origin}: image {number} has shape {image.shape}; all must be square and alike")
        writer = writer or _ShardWriter(partial, len(shards), codec, len(source.classes))
        writer.add(number, image, label)
        on_sample()
        if writer.count == shard_samples:
            shards.append(writer.close())
            writer = None
    if writer:
        shards.append(writer.close())
    if shape is None:
        raise DataError(f"{source.origin}: no images in it")
    manifest = Manifest(
        name=source.name,
        resolution=shape[1],
        channels=shape[0],
        classes=source.classes,
        codec=codec,
        protocol=source.protocol,
        licence=source.licence,
        source=source.origin,
        shards=tuple(shards),
    )
    manifest.save(partial)
    partial.rename(folder)
    return manifest


class _ShardWriter:
    def __init__(self, folder: Path, number: int, codec: str, classes: int) -> None:
        self._path = folder / f"shard-{number:06d}.tar"
        self._tar = tarfile.open(self._path, "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115 - closed in close()
        self._codec = codec
        self._rows: list[tuple[int, int, int, int]] = []
        self._histogram = [0] * classes

    @property
    def count(self) -> int:
        return len(self._rows)

    def add(self, number: int, image: Pixels, label: int) -> None:
        data = encode(image, self._codec)
        offset = self._add_member(f"{number:09d}.{self._codec}", data)
        self._rows.append((offset, len(data), label, zlib.crc32(data)))
        if label >= 0:
            self._add_member(f"{number:09d}.cls", str(label).encode())
            self._histogram[label] += 1

    def close(self) -> Shard:
        self._tar.close()
        index = self._path.with_suffix(".index.npy")
        save_index(index, self._rows)
        return Shard(
            url=self._path.name,
            index=index.name,
            count=self.count,
            bytes=self._path.stat().st_size,
            sha256=sha256_of(self._path),
            class_histogram=tuple(self._histogram),
        )

    def _add_member(self, name: str, data: bytes) -> int:
        """Add a member without times or owners, so that equal images make equal tars; return where its data lie."""
        member = tarfile.TarInfo(name)
        member.size = len(data)
        header = self._tar.offset
        self._tar.addfile(member, io.BytesIO(data))
        return header + tarfile.BLOCKSIZE


def already_written(folder: Path) -> bool:
    """Tell whether `folder` holds a whole set of shards."""
    return (folder / FILE_NAME).is_file()
