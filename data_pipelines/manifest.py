"""The manifest: what a set of shards holds, exactly, so that nothing can go missing without being noticed."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from data_pipelines.errors import DataError
from data_pipelines.files import atomic_write

FORMAT = "bigtrain-shards/1"
FILE_NAME = "manifest.json"


@dataclass(frozen=True)
class Shard:
    """One tar file.

    Attributes:
        url: file name relative to the manifest.
        index: name of its index file, see `data_pipelines.index`.
        count: number of samples.
        bytes: size of the tar.
        sha256: of the tar.
        class_histogram: number of samples of each class.
    """

    url: str
    index: str
    count: int
    bytes: int
    sha256: str
    class_histogram: tuple[int, ...]


@dataclass(frozen=True)
class Manifest:
    """A set of shards.

    Attributes:
        name: what the set is called.
        resolution: height and width of every image.
        channels: 1 (grey) or 3 (RGB).
        classes: names of the classes, in the order of their indices; empty if unlabelled.
        codec: `png` or `npy`, how an image lies in the tar.
        protocol: how the source's images became these (resize filter, crop, padding), in words.
        licence: of the images.
        source: where they came from.
        shards: in order.
    """

    name: str
    resolution: int
    channels: int
    classes: tuple[str, ...]
    codec: str
    protocol: str
    licence: str
    source: str
    shards: tuple[Shard, ...] = field(repr=False)

    @property
    def count(self) -> int:
        """Number of samples in all shards."""
        return sum(shard.count for shard in self.shards)

    @property
    def bytes(self) -> int:
        """Size of all shards."""
        return sum(shard.bytes for shard in self.shards)

    @property
    def class_histogram(self) -> list[int]:
        """Number of samples of each class, over all shards."""
        return [sum(shard.class_histogram[label] for shard in self.shards) for label in range(len(self.classes))]

    @property
    def digest(self) -> str:
        """SHA-256 over everything in the manifest: two sets with one digest hold the same images in the same order."""
        canonical = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def save(self, folder: Path) -> None:
        """Write `manifest.json` into `folder`, atomically."""
        document = {"format": FORMAT, "digest": self.digest, **asdict(self)}
        with atomic_write(folder / FILE_NAME) as file:
            file.write(json.dumps(document, indent=1).encode())

    @classmethod
    def load(cls, folder: Path) -> "Manifest":
        """Read and check the manifest of `folder`.

        Raises:
            DataError: no such folder, no manifest, not ours, or changed since it was written.
        """
        path = folder / FILE_NAME
        if not folder.is_dir():
            raise DataError(f"{folder}: no such dataset folder (make one with: bigtrain data prepare SOURCE {folder})")
        if not path.is_file():
            raise DataError(f"{folder}: no {FILE_NAME} in it (make shards with: bigtrain data prepare SOURCE DEST)")
        try:
            document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            if document.pop("format", None) != FORMAT:
                raise DataError(f"{path}: not a manifest of format {FORMAT}")
            digest = document.pop("digest", None)
            manifest = cls._from_document(document)
        except (json.JSONDecodeError, UnicodeDecodeError, TypeError, KeyError, AttributeError) as error:
            raise DataError(f"{path}: damaged manifest ({type(error).__name__}: {error})") from None
        if manifest.digest != digest:
            raise DataError(f"{path}: its digest does not match its content, it was changed after it was written")
        return manifest

    @classmethod
    def _from_document(cls, document: Mapping[str, Any]) -> "Manifest":
        shards = tuple(
            Shard(**{**shard, "class_histogram": tuple(shard["class_histogram"])}) for shard in document["shards"]
        )
        for shard in shards:
            if Path(shard.url).name != shard.url or Path(shard.index).name != shard.index:
                raise DataError(f"{FILE_NAME}: shard {shard.url!r} points outside of the dataset folder")
        return cls(**{**document, "classes": tuple(document["classes"]), "shards": shards})
