"""The manifest: what a set of shards holds, exactly, so that nothing can go missing without being noticed."""

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_pipelines.codec import CODECS
from data_pipelines.errors import DataError
from data_pipelines.files import atomic_write

FORMAT = "bigtrain-shards/3"
FILE_NAME = "manifest.json"

_ELSEWHERE = re.compile(r"/|https?://|s3://|pipe:")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Shard:
    """One tar file.

    Attributes:
        url: its name relative to the manifest; or where it lies elsewhere: an absolute path, `http(s)://`, `s3://`
            or `pipe:COMMAND`.
        index: name of its index file beside the manifest, see `data_pipelines.index`.
        count: number of samples.
        bytes: size of the tar.
        sha256: of the tar.
        class_counts: numbers of samples of each class, in one text: 10,000 shards of 1,000 classes are read in half a
            second so, and in four as lists of numbers.
    """

    url: str
    index: str
    count: int
    bytes: int
    sha256: str
    class_counts: str

    @property
    def class_histogram(self) -> list[int]:
        """Number of samples of each class."""
        return [int(count) for count in self.class_counts.split()]

    def path(self, folder: Path) -> Path | None:
        """Return the local file of a shard whose manifest lies in `folder`; None if it must be fetched."""
        if _ELSEWHERE.match(self.url) and not self.url.startswith("/"):
            return None
        return folder / self.url


@dataclass(frozen=True)
class Manifest:
    """A set of shards.

    Attributes:
        name: what the set is called.
        resolution: height of every image.
        width: of every image; None where it is square.
        channels: 1 (grey), 2 (grey and alpha), 3 (RGB) or 4 (RGBA).
        classes: names of the classes, in the order of their indices; empty if unlabelled.
        codec: how an image lies in the tar, one of `CODECS`.
        protocol: how the source's images became these (crop, resize filter, resolution), in words.
        licence: of the images.
        source: where they came from.
        fields: names (file extensions) of the further members that are kept of a sample, such as `txt`.
        rejected: number of the source's images that are not in the set; `rejected.jsonl` lists them.
        shards: in order.
    """

    name: str
    resolution: int
    width: int | None
    channels: int
    classes: tuple[str, ...]
    codec: str
    protocol: str
    licence: str
    source: str
    fields: tuple[str, ...]
    rejected: int
    shards: tuple[Shard, ...] = field(repr=False)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of every image."""
        return self.channels, self.resolution, self.width or self.resolution

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
        return list(map(int, self.class_histograms().sum(axis=0)))

    def class_histograms(self) -> NDArray[np.int64]:
        """Return the number of samples of each shard and class, shape [shards, classes]."""
        if not self.classes:
            return np.zeros((len(self.shards), 0), np.int64)
        text = " ".join(shard.class_counts for shard in self.shards)
        return np.fromstring(text, dtype=np.int64, sep=" ").reshape(len(self.shards), -1)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over everything in the manifest: two sets with one digest hold the same images in the same order."""
        canonical = json.dumps(self._document(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def save(self, folder: Path) -> None:
        """Write `manifest.json` into `folder`, atomically: a line for each entry and each shard."""
        document = {"format": FORMAT, "digest": self.digest, **self._document()}
        shards = ",\n  ".join(json.dumps(shard) for shard in document.pop("shards"))
        head = json.dumps(document, indent=1).removesuffix("\n}")
        with atomic_write(folder / FILE_NAME) as file:
            file.write(f'{head},\n "shards": [\n  {shards}\n ]\n}}\n'.encode())

    def _document(self) -> dict[str, Any]:
        """Return what `asdict` would, without its copies of each number: there may be 10,000 shards."""
        document = {entry.name: getattr(self, entry.name) for entry in dataclasses.fields(self)}
        return {**document, "shards": [vars(shard) for shard in self.shards]}

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
            document = json.loads(path.read_bytes())
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise DataError(f"{path}: damaged manifest ({error})") from None
        if not isinstance(document, dict) or document.pop("format", None) != FORMAT:
            raise DataError(f"{path}: not a manifest of format {FORMAT} (prepare the set again)")
        digest = document.pop("digest", None)
        try:
            manifest = _parse(document)
        except ValueError as error:
            raise DataError(f"{path}: damaged manifest: {error}") from None
        if manifest.digest != digest:
            raise DataError(f"{path}: its digest does not match its content, it was changed after it was written")
        return manifest


_MANIFEST_KEYS = frozenset(entry.name for entry in dataclasses.fields(Manifest))
_SHARD_KEYS = frozenset(entry.name for entry in dataclasses.fields(Shard))


def _parse(document: Mapping[str, Any]) -> Manifest:
    """Build a manifest from JSON; ValueError says what is wrong with it."""
    _check_keys(document, _MANIFEST_KEYS, "the manifest")
    for key in ("name", "codec", "protocol", "licence", "source"):
        _check(isinstance(document[key], str), f"{key} is not a text")
    _check(document["codec"] in CODECS, f"codec {document['codec']!r} is none of {', '.join(CODECS)}")
    for key in ("classes", "fields"):
        values = document[key]
        _check(isinstance(values, list) and all(isinstance(value, str) for value in values), f"{key} is not a list")
    _check(_is_count(document["resolution"], 1), "resolution is not a number of pixels")
    _check(document["width"] is None or _is_count(document["width"], 1), "width is not a number of pixels")
    _check(document["channels"] in (1, 2, 3, 4), "channels is not 1, 2, 3 or 4")
    _check(_is_count(document["rejected"]), "rejected is not a number of images")
    _check(isinstance(document["shards"], list) and len(document["shards"]) > 0, "it lists no shards")
    classes, names = tuple(document["classes"]), tuple(document["fields"])
    shards = tuple(_parse_shard(number, shard, len(classes)) for number, shard in enumerate(document["shards"]))
    return Manifest(**{**document, "classes": classes, "fields": names, "shards": shards})


def _parse_shard(number: int, document: Mapping[str, Any], classes: int) -> Shard:
    what = f"shard {number}"
    _check_keys(document, _SHARD_KEYS, what)
    url, index, counts = document["url"], document["index"], document["class_counts"]
    for name in (url, index):
        _check(isinstance(name, str) and name != "", f"{what} has no name")
    outside = not _ELSEWHERE.match(url) and not _stays_inside(url)
    _check(not outside and _stays_inside(index), f"{what}, {url!r}, points outside of the dataset folder")
    for key, least in (("count", 1), ("bytes", 1)):
        _check(_is_count(document[key], least), f"{key} of {what} is {document[key]!r}")
    sha256 = document["sha256"]
    _check(isinstance(sha256, str) and _SHA256.fullmatch(sha256) is not None, f"sha256 of {what} is {sha256!r}")
    digits = isinstance(counts, str) and f"0{counts.replace(' ', '')}".isdecimal()
    fits = digits and len(counts.split()) == classes
    _check(fits, f"class_counts of {what} is not {classes} numbers")
    return Shard(**document)


def _check(holds: bool, problem: str) -> None:
    if not holds:
        raise ValueError(problem)


def _check_keys(document: Mapping[str, Any], expected: frozenset[str], what: str) -> None:
    _check(isinstance(document, dict), f"{what} is not an object")
    if document.keys() != expected:
        for problem, keys in (("lacks", expected - document.keys()), ("has unknown", document.keys() - expected)):
            _check(not keys, f"{what} {problem} {', '.join(sorted(keys))}")


def _is_count(value: object, least: int = 0) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _stays_inside(name: str) -> bool:
    return not name.startswith("/") and ".." not in name.split("/") and "\\" not in name
