"""The manifest: what a set of shards holds, exactly, so that nothing can go missing without being noticed."""

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines.class_counts import ClassCounts, Integers, is_text_of_counts
from data_pipelines.errors import DataError
from data_pipelines.fields.registry import check_spec
from data_pipelines.fields.spec import FieldSpec
from data_pipelines.files import atomic_write, parse_json
from data_pipelines.index import index_dtype, index_dtype_3
from data_pipelines.manifest_v3 import FORMAT_3, downgrade, upgrade
from data_pipelines.shard_table import COUNTS, NAMES, TABLE, Shard, ShardTable, check_names, load_table, table_files

FORMAT = "bigtrain-shards/4"
FORMAT_5 = "bigtrain-shards/5"
"""Of large sets: the shards are listed in binary files beside the manifest, see `shard_table`."""
FILE_NAME = "manifest.json"
_LARGE = 24_000_000
"""About the bytes of JSON that take a second to read; a list that would be longer is kept in tables."""
IMAGE, CLASS = "image", "class"
"""Names of the fields that most sets have."""

_FIELD = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Manifest:
    """A set of shards.

    Attributes:
        name: what the set is called.
        fields: what a sample is made of, by name. A field of kind `class` is called `class`; it is a column of the
            index. All others are stored as members of the tars.
        protocol: how the source's samples became these (crop, resize filter, resolution), in words.
        licence: of the samples.
        source: where they came from.
        members: names (file extensions) of further members that are kept of a sample and not read in training.
        rejected: number of the source's samples that are not in the set; `rejected.jsonl` lists them.
        shards: in order.
        format: that the manifest was written in.
    """

    name: str
    fields: Mapping[str, FieldSpec]
    protocol: str
    licence: str
    source: str
    members: tuple[str, ...]
    rejected: int
    shards: Sequence[Shard] = field(repr=False)
    format: str = FORMAT

    @property
    def stored(self) -> tuple[str, ...]:
        """Names of the fields that are members of the tars, in the order of the index."""
        return tuple(sorted(self.fields.keys() - {CLASS}))

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of their indices; empty if unlabelled."""
        return self.fields[CLASS].classes if CLASS in self.fields else ()

    @property
    def image(self) -> FieldSpec:
        """The field `image`.

        Raises:
            DataError: the set has none.
        """
        if IMAGE not in self.fields:
            raise DataError(f"{self.name}: has no field '{IMAGE}'; its fields are {', '.join(self.fields)}")
        return self.fields[IMAGE]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the field `image`."""
        channels, height, width = self.image.shape
        return channels, height, width

    @property
    def resolution(self) -> int:
        """Height of the field `image`."""
        return self.shape[1]

    @property
    def channels(self) -> int:
        """Channels of the field `image`."""
        return self.shape[0]

    @property
    def codec(self) -> str:
        """How the field `image` lies in the tars, one of `CODECS`."""
        return self.image.codec

    @property
    def index_dtype(self) -> np.dtype[np.void]:
        """Type of a row of the shards' indexes."""
        return index_dtype_3(self.members) if self.format == FORMAT_3 else index_dtype(self.stored, self.members)

    def index_columns(self, name: str) -> tuple[str, str, str]:
        """Return the columns of the index with the first byte, the length and the CRC-32 of a field's file."""
        prefix = "" if self.format == FORMAT_3 and name == IMAGE else f"{name}."
        return f"{prefix}offset", f"{prefix}size", f"{prefix}crc32"

    @cached_property
    def counts(self) -> Integers:
        """Number of samples of each shard, int64, shape [shards]."""
        if isinstance(self.shards, ShardTable):
            return self.shards.rows["count"].astype(np.int64)
        return np.array([shard.count for shard in self.shards], dtype=np.int64)

    @property
    def urls(self) -> Sequence[str]:
        """Where each shard lies."""
        return self.shards.urls if isinstance(self.shards, ShardTable) else [shard.url for shard in self.shards]

    @property
    def count(self) -> int:
        """Number of samples in all shards."""
        return int(self.counts.sum())

    @property
    def bytes(self) -> int:
        """Size of all shards."""
        if isinstance(self.shards, ShardTable):
            return int(self.shards.rows["bytes"].sum())
        return sum(shard.bytes for shard in self.shards)

    @cached_property
    def class_counts(self) -> ClassCounts:
        """Number of samples of each class, by shard."""
        return ClassCounts.of_texts([shard.class_counts for shard in self.shards], len(self.classes))

    @property
    def class_histogram(self) -> list[int]:
        """Number of samples of each class, over all shards."""
        return list(map(int, self.class_counts.totals))

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the files that say what the set holds; `manifest.json` comes last."""
        return (*((TABLE, NAMES, COUNTS) if self.format == FORMAT_5 else ()), FILE_NAME)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over everything in the manifest: two sets with one digest hold the same samples in the same order."""
        canonical = json.dumps(self._content(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def save(self, folder: Path) -> None:
        """Write `manifest.json` into `folder`, atomically: a line for each entry and each shard; tables go before."""
        document = {"format": self.format, "digest": self.digest, **self._content()}
        tail = ""
        if self.format == FORMAT_5:
            for name, content in self._table[1].items():
                with atomic_write(folder / name) as file:
                    file.write(content)
        else:
            del document["shards"]
            shards = ",\n  ".join(json.dumps(shard.document()) for shard in self.shards)
            tail = f',\n "shards": [\n  {shards}\n ]'
        head = json.dumps(document, indent=1).removesuffix("\n}")
        with atomic_write(folder / FILE_NAME) as file:
            file.write(f"{head}{tail}\n}}\n".encode())

    @cached_property
    def _table(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """What is said of the tables, and their content; of a set that was loaded, only the first."""
        return table_files(self.shards, self.class_counts)

    def _content(self) -> dict[str, Any]:
        """Return what is written and hashed."""
        if self.format == FORMAT_3:
            return downgrade(self._document())
        return self._document()

    def _document(self) -> dict[str, Any]:
        """Return what `asdict` would, without its copies of each number: there may be 10,000 shards."""
        document = {key: getattr(self, key) for key in _MANIFEST_KEYS}
        fields = {name: spec.document() for name, spec in self.fields.items()}
        document |= {"fields": fields, "members": list(self.members)}
        if self.format == FORMAT_5:
            del document["shards"]
            return {**document, "table": self._table[0]}
        return {**document, "shards": [shard.content() for shard in self.shards]}

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
            document = parse_json(path.read_bytes())
        except ValueError as error:
            raise DataError(f"{path}: damaged manifest ({error})") from None
        form = document.pop("format", None) if isinstance(document, dict) else None
        if form not in (FORMAT, FORMAT_3, FORMAT_5):
            raise DataError(f"{path}: not a manifest of format {FORMAT} or {FORMAT_5} (prepare the dataset again)")
        digest = document.pop("digest", None)
        try:
            manifest = _parse(upgrade(document) if form == FORMAT_3 else document, form, folder)
        except (ValueError, OSError) as error:
            raise DataError(f"{path}: damaged manifest: {error}") from None
        if manifest.digest != digest:
            raise DataError(f"{path}: its digest does not match its content: it was changed after it was written")
        for name, spec in manifest.fields.items():
            try:
                check_spec(spec)
            except ValueError as error:
                raise DataError(f"{path}: field '{name}': {error}") from None
        return manifest


_MANIFEST_KEYS = tuple(entry.name for entry in dataclasses.fields(Manifest) if entry.name != "format")
_TABLE_KEYS = frozenset({*_MANIFEST_KEYS, "table"} - {"shards"})
_SHARD_KEYS = frozenset(entry.name for entry in dataclasses.fields(Shard) if entry.name != "index_sha256")


def tables_of(content: bytes) -> tuple[str, ...]:
    """Return the names of the files beside a manifest's file of that content, which list its shards."""
    return (TABLE, NAMES, COUNTS) if f'"{FORMAT_5}"'.encode() in content[:100] else ()


def format_for(shards: int, classes: int) -> str:
    """Return the format of a new set of so many shards and classes."""
    return FORMAT_5 if shards * (250 + 2 * classes) > _LARGE else FORMAT


def _parse(document: Mapping[str, Any], form: str, folder: Path) -> Manifest:
    """Build a manifest from JSON; ValueError or OSError say what is wrong with it."""
    _check_keys(document, _TABLE_KEYS if form == FORMAT_5 else frozenset(_MANIFEST_KEYS), "the manifest")
    for key in ("name", "protocol", "licence", "source"):
        _check(isinstance(document[key], str), f"{key} is not a text")
    members = document["members"]
    _check(isinstance(members, list) and all(isinstance(name, str) for name in members), "members is not a list")
    _check(_is_count(document["rejected"]), "rejected is not a number of samples")
    fields = _parse_fields(document["fields"])
    classes = len(fields[CLASS].classes) if CLASS in fields else 0
    about = {**document, "fields": fields, "members": tuple(members), "format": form}
    if form == FORMAT_5:
        table = about.pop("table")
        _check(isinstance(table, dict), "table is not an object")
        listed, counts = load_table(folder, table, classes)
        manifest = Manifest(**about, shards=listed)
        manifest.__dict__.update(class_counts=counts, _table=(table, {}))
        return manifest
    _check(isinstance(document["shards"], list) and len(document["shards"]) > 0, "it lists no shards")
    shards = tuple(_parse_shard(number, shard, classes) for number, shard in enumerate(document["shards"]))
    return Manifest(**{**about, "shards": shards})


def _parse_fields(document: Any) -> dict[str, FieldSpec]:
    _check(isinstance(document, dict), "fields is not an object")
    fields = {}
    for name, entry in document.items():
        _check(_FIELD.fullmatch(name) is not None, f"field {name!r}: expected a name of letters, digits and _")
        try:
            fields[name] = FieldSpec.parse(entry)
        except ValueError as error:
            raise ValueError(f"field {name!r} {error}") from None
        _check((name == CLASS) == (fields[name].kind == CLASS), f"field {name!r}: the field of kind class is 'class'")
    _check(bool(fields.keys() - {CLASS}), "it has no field that is stored")
    return fields


def _parse_shard(number: int, document: Mapping[str, Any], classes: int) -> Shard:
    what = f"shard {number}"
    _check_keys(document, _SHARD_KEYS, what, optional=frozenset({"index_sha256"}))
    url, index, counts = document["url"], document["index"], document["class_counts"]
    for name in (url, index):
        _check(isinstance(name, str) and name != "", f"{what} has no name")
    check_names(url, index)
    for key, least in (("count", 1), ("bytes", 1)):
        _check(_is_count(document[key], least), f"{key} of {what} is {document[key]!r}")
    for key in sorted(document.keys() & {"sha256", "index_sha256"}):
        sha256 = document[key]
        _check(isinstance(sha256, str) and _SHA256.fullmatch(sha256) is not None, f"{key} of {what} is {sha256!r}")
    _check(is_text_of_counts(counts, classes), f"class_counts of {what} is not {classes} numbers")
    return Shard(**document)


def _check(holds: bool, problem: str) -> None:
    if not holds:
        raise ValueError(problem)


def _check_keys(
    document: Mapping[str, Any], expected: frozenset[str], what: str, optional: frozenset[str] = frozenset()
) -> None:
    _check(isinstance(document, dict), f"{what} is not an object")
    unknown = document.keys() - expected - optional
    for problem, keys in (("lacks", expected - document.keys()), ("has unknown", unknown)):
        _check(not keys, f"{what} {problem} {', '.join(sorted(keys))}")


def _is_count(value: object, least: int = 0) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
