"""Samples of tars that nobody has indexed, read once from front to end through the package `webdataset`.

The bytes come through our own files: what a server breaks off is asked for again from there on, and a tar that ends
too early is told, where plain `webdataset` would end in silence. No command is run for a URL.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines.content import archive_format
from data_pipelines.errors import DataError, UnreachableError
from data_pipelines.faults import Fault, FaultLog
from data_pipelines.fields.kind import Value
from data_pipelines.fields.registry import kind_of
from data_pipelines.fields.spec import FieldSpec
from data_pipelines.member_names import field_of, kind_of_member
from data_pipelines.protocol import Crop, ImageProtocol
from data_pipelines.read import DamageError
from data_pipelines.remote import FetchError, RetryPolicy, chunks_of, is_remote, with_retries

Members = Mapping[str, Any]
"""A sample as `webdataset` has it: the bytes of its members by extension, and its `__key__`."""

_LABELS = ("label", "cls", "class")
"""Keys of the class in a `.json` member."""
_CHUNK = 1 << 20
_BLOCK = 512


@dataclass(frozen=True)
class TarReader:
    """Reads tars, and decodes their samples; threads may share it.

    Attributes:
        specs: of the fields that are wanted, by name.
        fit: how images become those of the spec, see `ImageProtocol`.
        upscale: whether smaller images are enlarged; else they are rejected.
        retry: with servers.
        faults: where retries are counted.
    """

    specs: Mapping[str, FieldSpec]
    fit: Crop
    upscale: bool
    retry: RetryPolicy
    faults: FaultLog

    def samples(self, url: str) -> Iterator[Members]:
        """Iterate over the samples of a tar, not decoded, in its order.

        Raises:
            UnreachableError: a server does not answer.
            DamageError: the tar is missing or damaged; what comes before the damage has been returned.
        """
        from webdataset.tariterators import group_by_keys, tar_file_expander

        count = 0
        with closing(TarFile(url, self.retry, self.faults)) as file:
            try:
                for sample in group_by_keys(tar_file_expander([{"url": url, "stream": file}])):
                    count += 1
                    yield sample
            except Exception as error:  # of tarfile, zlib, lzma and webdataset
                if file.failure is not None:
                    raise file.failure from None
                raise DamageError(Fault(url, f"damaged after {count} samples ({_words(error)})")) from None
            if not file.ended:
                raise DamageError(Fault(url, f"ends too early, or is damaged, after {count} samples"))

    def decode(self, sample: Members) -> dict[str, Value]:
        """Return the fields of a sample.

        Raises:
            Rejected: an image is too small, or cannot be read.
            ValueError: a field is missing, or not as it should be.
        """
        return {name: self._field(name, spec, sample) for name, spec in self.specs.items()}

    def _field(self, name: str, spec: FieldSpec, sample: Members) -> Value:
        if spec.kind == "class":
            return np.array(_label(sample, len(spec.classes)), np.int64)
        content = next((sample[one] for one in sample if field_of(one) == name), None)
        if content is None and spec.kind == "text":
            return np.zeros(spec.shape, np.uint8)
        if content is None:
            found = ", ".join(sorted({field_of(one) for one in sample if kind_of_member(one)})) or "none"
            raise ValueError(f"no field '{name}', its fields are {found}")
        if spec.kind == "image" and spec.dtype == "uint8":
            channels, height, width = spec.shape
            return ImageProtocol(height, width, channels, crop=self.fit, upscale=self.upscale).apply(content)
        if spec.kind == "text":  # a caption that is too long is cut, between two letters
            content = content[: spec.shape[0]].decode("utf-8", "ignore").encode()
        return kind_of(spec).read(spec, content)


class TarFile:
    """The bytes of a tar, from a path or a URL, from front to end.

    Args:
        url: of the tar.
        retry: with a server.
        faults: where retries are counted.

    Attributes:
        failure: why reading ended before the file did; None: it has not.
    """

    def __init__(self, url: str, retry: RetryPolicy, faults: FaultLog) -> None:
        self._url, self._retry, self._faults = url, retry, faults
        self._at = 0
        self._chunks: Iterator[bytes] | None = None
        self._buffer = b""
        self._head = self._last = b""
        self.failure: DataError | None = None

    @property
    def ended(self) -> bool:
        """Whether the last bytes that were read may be a tar's end; of a compressed one, its decoder tells."""
        return archive_format(self._head) not in (None, "tar") or self._last == bytes(_BLOCK)

    def read(self, size: int) -> bytes:
        """Return the next bytes; fewer than `size` at the end.

        Raises:
            DataError: they cannot be had.
        """
        parts = [self._buffer]
        length = len(self._buffer)
        while length < size:
            try:
                part = with_retries(self._more, self._url, self._retry, self._faults)
            except UnreachableError as error:
                self.failure = error
                raise
            except (DataError, OSError) as error:
                self.failure = DamageError(Fault(self._url, str(error)))
                raise self.failure from None
            if not part:
                break
            parts.append(part)
            length += len(part)
        whole = b"".join(parts)
        found, self._buffer = whole[:size], whole[size:]
        self._head = self._head or found[:_BLOCK]
        self._last = (self._last + found)[-_BLOCK:]
        return found

    def close(self) -> None:
        """End the connection."""
        if self._chunks is not None and hasattr(self._chunks, "close"):
            self._chunks.close()

    def _more(self) -> bytes:
        """Return some bytes behind those that have come; none at the end."""
        if self._chunks is None:
            remote = is_remote(self._url)
            self._chunks = chunks_of(self._url, self._retry, self._at) if remote else _chunks_of_file(self._url)
        try:
            chunk = next(self._chunks, b"")
        except FetchError:
            self._chunks = None  # the next call goes on behind what has come
            raise
        self._at += len(chunk)
        return chunk


def _chunks_of_file(path: str) -> Iterator[bytes]:
    with Path(path).expanduser().open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk


def _label(sample: Members, classes: int) -> int:
    """Return the class of a sample: the number in its `.cls`, or in its `.json`.

    Raises:
        ValueError: it has none, or none of so many.
    """
    found: Any = sample.get("cls")
    if found is None and "json" in sample:
        document = json.loads(sample["json"])
        if isinstance(document, dict):
            found = next((document[key] for key in _LABELS if key in document), None)
    if found is None:
        raise ValueError("no class: neither .cls nor label, cls or class in .json (classes: 0 trains without them)")
    try:
        label = int(found)
    except (TypeError, ValueError):
        raise ValueError(f"class {found!r} is not a number: class names need bigtrain data prepare") from None
    if not 0 <= label < classes:
        raise ValueError(f"class {label} is not below the number of classes, {classes}")
    return label


def _words(error: Exception) -> str:
    """Return the message of an error, to which `webdataset` has added arguments."""
    return str(error.args[0]) if error.args else type(error).__name__
