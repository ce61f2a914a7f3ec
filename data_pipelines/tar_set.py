"""What is in the batches of a stream of tars without an index, and the set that is known of it: its head."""

import fcntl
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from data_pipelines.batches import BatchPlan
from data_pipelines.errors import DataError
from data_pipelines.faults import FaultLog, log
from data_pipelines.fields.kind import Value
from data_pipelines.fields.registry import kind_of
from data_pipelines.fields.spec import FieldSpec
from data_pipelines.files import write_json
from data_pipelines.manifest import CLASS
from data_pipelines.order import trained_counts
from data_pipelines.protocol import Crop, Rejected
from data_pipelines.read import DamageError, ShardDataset
from data_pipelines.remote import RetryPolicy
from data_pipelines.source import Item, Row, Source
from data_pipelines.tar_samples import Members, TarReader
from data_pipelines.tar_urls import find_tars
from data_pipelines.write import ShardOptions, write_shards

_KEYS = ".keys.json"
"""Suffix of a file beside the head's set: the names of its samples in their order."""

PROMISE = (
    "tars without an index: order by a buffer, each sample about once an epoch, resumed at the start of a shard; "
    "counts and scores are of the first samples"
)
"""What such a stream promises, for the log and the run's card."""


@dataclass(frozen=True)
class TarPlan(BatchPlan):
    """What decides what is in a rank's batches of tars without an index.

    Attributes:
        urls: of the tars, as a user writes them; see `tar_urls`.
        specs: of the fields, by name.
        head: samples that are looked at before training.
        shuffle: samples of each worker's buffer.
        fit: how images become those of their spec.
        upscale: whether smaller images are enlarged; else they do not come.
        index: folder of an exact set that is made of them meanwhile; None: of none.
    """

    urls: tuple[str, ...] = ()
    specs: Mapping[str, FieldSpec] = field(default_factory=dict)
    head: int = 1024
    shuffle: int = 1000
    fit: Crop = "center"
    upscale: bool = False
    index: str | None = None

    @property
    def retry(self) -> RetryPolicy:
        """How servers are asked again."""
        return RetryPolicy(patience_s=self.cache.patience_s)

    def tars(self, faults: FaultLog) -> tuple[str, ...]:
        """Return the URL or path of every tar."""
        return find_tars(self.urls, self.retry, faults)

    def reader(self, faults: FaultLog) -> TarReader:
        """Return a reader of the tars."""
        return TarReader(self.specs, self.fit, self.upscale, self.retry, faults)

    def open(self, faults: FaultLog) -> ShardDataset:
        """Return the head as a dataset, made first where it is not there.

        Raises:
            DataError: none of the samples can be used.
        """
        folder = self._folder
        folder.parent.mkdir(parents=True, exist_ok=True)
        with folder.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.exists():
                self._make(folder, faults)
        return ShardDataset(folder)

    def held_out_keys(self) -> frozenset[str]:
        """Return the names of the samples that are not trained on: the last of the head."""
        keys: list[str] = json.loads(self._folder.with_suffix(_KEYS).read_bytes())
        return frozenset(keys[trained_counts([len(keys)], self.held_out)[0] :])

    @property
    def _folder(self) -> Path:
        asked = (self.urls, sorted(self.specs.items()), self.head, self.fit, self.upscale)
        return self.cache.place / "heads" / hashlib.sha256(repr(asked).encode()).hexdigest()[:32]

    def _make(self, folder: Path, faults: FaultLog) -> None:
        tars = self.tars(faults)
        classes = self.specs[CLASS].classes if CLASS in self.specs else ()
        stored = {name: _with_codec(spec) for name, spec in self.specs.items() if name != CLASS}
        first, *others = stored
        items: list[Item] = []
        files: dict[str, list[bytes]] = {name: [] for name in stored}
        for name, values in self._first_samples(tars, faults):
            rows = {one: Row(one, len(items)) for one in others}
            items.append(Item(name, Row(first, len(items)), int(values.get(CLASS, -1)), rows))
            for one, spec in stored.items():
                files[one].append(kind_of(spec).encode(spec, values[one]))
        source = Source(
            name=f"{Path(tars[0]).parent.name or 'tars'}-unindexed",
            items=items,
            reader=_Files(files),
            classes=classes,
            licence="not stated",
            origin=f"{len(tars):,} {PROMISE}: {self.place}",
            images=(),
            fields=stored,
        )
        unseen = len(classes) - len({item.label for item in items} - {-1})
        if unseen:
            log.warning(
                "%s: %d of %d classes are not among the first %d samples, so that fakes of them are not made; "
                "make data.head larger",
                *(self.place, unseen, len(classes), len(items)),
            )
        write_json(folder.with_suffix(_KEYS), [item.name for item in items])
        write_shards(source, folder, ShardOptions(shard_samples=len(items)))

    def _first_samples(self, tars: tuple[str, ...], faults: FaultLog) -> Iterator[tuple[str, Mapping[str, Value]]]:
        """Iterate over names and fields of the first samples that can be used."""
        reader, count, left_out = self.reader(faults), 0, 0
        problem: Exception | None = None
        for url in tars:
            try:
                for sample in reader.samples(url):
                    try:
                        values = reader.decode(sample)
                    except (Rejected, ValueError) as error:
                        problem, left_out = error, left_out + 1
                        if not count and left_out >= self.head:
                            break
                        continue
                    yield name_of(url, sample), values
                    count += 1
                    if count == self.head:
                        break
            except DamageError as error:
                problem = error
                faults.quarantine(error.fault)
            if count == self.head or (not count and left_out >= self.head):
                break
        if not count:
            raise DataError(f"{self.place}: none of the first {left_out} samples can be used ({problem})")
        if left_out:
            log.warning(
                "%s: %d of the first %d samples are left out (%s)", self.place, left_out, left_out + count, problem
            )


@dataclass(frozen=True)
class _Files:
    """Files in memory, found by their field and number."""

    files: Mapping[str, list[bytes]]

    def read(self, where: Row) -> bytes:
        """Return a file."""
        return self.files[where.array][where.number]


def name_of(url: str, sample: Members) -> str:
    """Return what a sample of a tar is called."""
    return f"{url} {sample['__key__']}"


def _with_codec(spec: FieldSpec) -> FieldSpec:
    return replace(spec, codec=next(iter(kind_of(spec).codecs), ""))
