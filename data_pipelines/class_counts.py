"""How many samples of each class each shard holds, without the many zeros: shards of 1,000 samples, 20,000 classes."""

import fcntl
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_pipelines.errors import DataError
from data_pipelines.files import atomic_write

Integers = NDArray[np.int64]

ENTRY = np.dtype([("label", "<u4"), ("count", "<u4")])
"""A class that a shard has samples of, and how many."""

SPARSE_FROM = 4096
"""Number of classes from which a shard's counts are written as `label:count`, of the classes that it has."""


@dataclass(frozen=True)
class ClassCounts:
    """The counts of all shards; they may lie in a mapped file, of which only what is asked for is read.

    Attributes:
        classes: number of classes.
        ends: where each shard's entries end, int64, shape [shards].
        entries: type `ENTRY`, shard after shard, in the order of the classes.
    """

    classes: int
    ends: Integers
    entries: NDArray[np.void]

    def of(self, shard: int) -> tuple[Integers, Integers]:
        """Return the classes that a shard has, ascending, and how many samples of each.

        Raises:
            DataError: the file that they come from is damaged.
        """
        start = int(self.ends[shard - 1]) if shard else 0
        found = self.entries[start : int(self.ends[shard])]
        labels, counts = found["label"].astype(np.int64), found["count"].astype(np.int64)
        if len(labels) and (labels[-1] >= self.classes or (np.diff(labels) <= 0).any()):
            raise DataError(f"the class counts of shard {shard} are damaged (see: bigtrain data verify)")
        return labels, counts

    def histogram(self, shard: int) -> list[int]:
        """Return the number of a shard's samples of each class."""
        labels, counts = self.of(shard)
        found = np.zeros(self.classes, np.int64)
        found[labels] = counts
        return list(map(int, found))

    @cached_property
    def totals(self) -> Integers:
        """Number of samples of each class, over all shards."""
        found = np.zeros(self.classes, np.int64)
        for shard in range(len(self.ends)):
            labels, counts = self.of(shard)
            found[labels] += counts
        return found

    @classmethod
    def of_labels(cls, labels: Iterable[NDArray[np.int32]], classes: int) -> "ClassCounts":
        """Count the classes of each shard's samples; -1 is none."""
        parts = [np.unique(part[part >= 0], return_counts=True) for part in labels]
        return cls._joined(parts, classes)

    @classmethod
    def of_texts(cls, texts: Sequence[str], classes: int) -> "ClassCounts":
        """Read the counts of shards as the manifest has them: a number a class, or `label:count`."""
        if not classes:
            return cls(0, np.zeros(len(texts), np.int64), np.empty(0, ENTRY))
        if not any(":" in text for text in texts):
            dense = np.fromstring(" ".join(texts), dtype=np.int64, sep=" ").reshape(len(texts), classes)
            shards, labels = dense.nonzero()
            entries = np.empty(len(labels), ENTRY)
            entries["label"], entries["count"] = labels, dense[shards, labels]
            return cls(classes, np.searchsorted(shards, np.arange(len(texts)), side="right"), entries)
        return cls._joined([_parsed(text, classes) for text in texts], classes)

    @classmethod
    def _joined(cls, parts: Sequence[tuple[NDArray[np.integer], NDArray[np.integer]]], classes: int) -> "ClassCounts":
        ends = np.cumsum([len(labels) for labels, _ in parts], dtype=np.int64)
        entries = np.empty(int(ends[-1]), ENTRY)
        entries["label"] = np.concatenate([labels for labels, _ in parts])
        entries["count"] = np.concatenate([counts for _, counts in parts])
        return cls(classes, ends, entries)


def kept_counts(folder: Path, key: str, classes: int, count: Callable[[], ClassCounts]) -> ClassCounts:
    """Return counts that one process of a node makes, and the others map.

    Args:
        folder: on a disk of the node.
        key: names what is counted.
        classes: number of classes.
        count: makes them.
    """
    ends, entries = folder / f"{key}.ends", folder / f"{key}.entries"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not ends.is_file():
            made = count()
            for path, array in (
                (entries, made.entries),
                (ends, made.ends),
            ):  # the ends are last: with them, all is there
                with atomic_write(path) as file:
                    file.write(array.tobytes())
    return ClassCounts(classes, np.fromfile(ends, np.int64), np.memmap(entries, ENTRY, "r"))


def text_of(histogram: Sequence[int]) -> str:
    """Return the text of a shard's counts, as the manifest has it."""
    if len(histogram) < SPARSE_FROM:
        return " ".join(map(str, histogram))
    return " ".join(f"{label}:{count}" for label, count in enumerate(histogram) if count)


def is_text_of_counts(text: object, classes: int) -> bool:
    """Tell whether a manifest's text holds the counts of so many classes."""
    if not isinstance(text, str) or text.encode("ascii", "replace").translate(None, delete=b"0123456789 :"):
        return False
    if ":" not in text:
        return len(text.split()) == classes or (not text and classes >= SPARSE_FROM)
    try:
        labels, _ = _parsed(text, classes)
    except ValueError:
        return False
    return bool((np.diff(labels) > 0).all()) and 0 <= int(labels[0]) <= int(labels[-1]) < classes


def _parsed(text: str, classes: int) -> tuple[Integers, Integers]:
    if ":" not in text:
        dense = np.fromstring(text, dtype=np.int64, sep=" ") if text else np.zeros(classes, np.int64)
        labels = dense.nonzero()[0]
        return labels, dense[labels]
    pairs = [pair.split(":") for pair in text.split()]
    labels, counts = (np.array([int(pair[side]) for pair in pairs], np.int64) for side in (0, 1))
    if any(len(pair) != 2 for pair in pairs):
        raise ValueError("expected label:count")
    return labels, counts
