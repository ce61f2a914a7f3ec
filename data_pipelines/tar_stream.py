"""An endless stream of batches of tars that nobody has indexed, for one rank.

Every worker of every rank is a reader of its own. The tars come in a random order in each epoch, epoch after epoch;
reader i of N takes the i-th of this endless row, the one N places behind it, and so on. So no reader runs dry, however
many tars there are, and all ranks have batches of one size. Samples leave a tar through a buffer in random order.

How many samples a tar has is known once a reader has come to its end, and is noted beside the list of damaged files.
A position is found by these numbers, and by their mean where there are none: reading goes on at the start of a tar.
"""

import random
import threading
from collections.abc import Iterator
from functools import lru_cache
from itertools import count
from pathlib import Path
from queue import Empty, Full, Queue

import numpy as np

from data_pipelines.errors import DataError
from data_pipelines.faults import Fault, FaultLog, log
from data_pipelines.fields.decoder import Fields
from data_pipelines.fields.kind import Value
from data_pipelines.order import Integers, permutation
from data_pipelines.protocol import Rejected
from data_pipelines.read import DamageError
from data_pipelines.readers import POLL_S, WhileWaiting, go_on_waiting
from data_pipelines.stream import HostBatch, Loader
from data_pipelines.tar_index import Indexing
from data_pipelines.tar_samples import Members
from data_pipelines.tar_set import PROMISE, TarPlan, name_of

_COUNTS = "tar-counts.txt"
"""File beside the list of damaged files: a line for each tar that was read to its end, its number and its samples."""
_IN_VAIN = 1000
"""Samples in a row that cannot be used after which reading ends."""

_Found = dict[str, Value] | Exception


class TarStream(Iterator[HostBatch]):
    """Iterate over this rank's batches, read ahead.

    Args:
        plan: what is in the batches.
        loader: always threads.
        workers: how many of them.
        read_ahead: batches prepared in advance; by default, one more than there are workers.
        quarantine: file that lists what was damaged.
        while_waiting: called again and again while a sample is waited for; it may raise.
        name: of the stream.

    Attributes:
        dataset: the first samples, as a set.
        faults: what was damaged on the way.
    """

    def __init__(
        self,
        plan: TarPlan,
        *,
        loader: Loader = "threads",
        workers: int = 1,
        read_ahead: int | None = None,
        quarantine: Path | None = None,
        while_waiting: WhileWaiting = go_on_waiting,
        name: str = "",
    ) -> None:
        self._while_waiting = while_waiting
        self.plan, self.faults = plan, FaultLog(quarantine, name)
        self.dataset = plan.open(self.faults)
        self.tars = plan.tars(self.faults)
        self.reader, self.held_out = plan.reader(self.faults), plan.held_out_keys()
        file = quarantine and quarantine.with_name(f"{name}{_COUNTS}")
        self._turns = Turns(len(self.tars), plan.seed, file)
        batches = workers + 1 if read_ahead is None else read_ahead
        self._room = max(1, batches * plan.size // workers)
        self._workers, self._readers, self._next, self._taken = workers, list[_Reader](), 0, 0
        self._indexing: Indexing | None = None
        if plan.rank == 0:
            log.warning("%s: %s", plan.place, PROMISE)
            self._indexing = Indexing(plan) if plan.index else None

    def seek(self, position: int) -> None:
        """Go to `position`, a multiple of the global batch: to the start of a tar near it, in each worker."""
        if position % self.plan.global_batch:
            raise ValueError(f"position {position} is not a multiple of the global batch {self.plan.global_batch}")
        self._end_readers()
        self._next, self._taken = position, 0

    def __next__(self) -> HostBatch:
        """Return the next batch, waiting for it if need be.

        Raises:
            DataError: it cannot be had.
        """
        if not self._readers:
            self._start()
        samples = []
        for _ in range(self.plan.size):
            samples.append(self._readers[self._taken % self._workers].take(self._while_waiting))
            self._taken += 1
        fields: Fields = {name: np.stack([sample[name] for sample in samples]) for name in self.plan.specs}
        positions = [place for part in self.plan.parts(self._next) for place in part]
        self._next += self.plan.global_batch
        return HostBatch(fields, np.array(positions, dtype=np.int64))

    def has_read(self, batches: int) -> bool:
        """Tell whether so many next batches, or as many as are read ahead, have been read."""
        each = -(-batches * self.plan.size // self._workers)
        return bool(self._readers) and all(reader.has_read(min(each, self._room)) for reader in self._readers)

    def close(self) -> None:
        """Stop reading ahead, and making an exact set."""
        self.faults.close()
        self._end_readers()
        if self._indexing is not None:
            self._indexing.close()

    def _end_readers(self) -> None:
        for reader in self._readers:
            reader.close()
        self._readers.clear()

    def _start(self) -> None:
        readers = self.plan.world_size * self._workers
        for worker in range(self._workers):
            first = self.plan.rank * self._workers + worker
            turn = self._turns.find(first, readers, self._next // readers)
            self._readers.append(_Reader(self, self._turns, turn, readers, self._room))


class Turns:
    """The endless row of tars, epoch after epoch, and how many samples each has.

    Args:
        tars: how many there are.
        seed: of the order.
        file: where numbers of samples are noted; all ranks of a run may share it. None: nowhere.
    """

    def __init__(self, tars: int, seed: int, file: Path | None) -> None:
        self._tars, self._seed, self._file = tars, seed, file
        self._epoch = lru_cache(maxsize=2)(self._shuffled)

    def tar_at(self, turn: int) -> int:
        """Return the number of the tar at a place of the row."""
        epoch, place = divmod(turn, self._tars)
        return int(self._epoch(epoch)[place])

    def note(self, tar: int, samples: int) -> None:
        """Remember how many samples a tar has; those of a reader that began within it are not known."""
        if self._file is not None and samples:
            with self._file.open("a", encoding="utf-8") as file:
                file.write(f"{tar} {samples}\n")

    def find(self, first: int, step: int, samples: int) -> int:
        """Return the turn in which a reader takes a sample of its own.

        Args:
            first: its first turn.
            step: turns between two of its own.
            samples: that it has taken before.
        """
        known = self._noted()
        if not known or not samples:
            return first
        mean, before = sum(known.values()) / len(known), 0.0
        for turn in count(first, step):
            before += known.get(self.tar_at(turn), mean)
            if before > samples:
                return turn
        raise AssertionError

    def _noted(self) -> dict[int, int]:
        if self._file is None or not self._file.is_file():
            return {}
        words = (line.split() for line in self._file.read_text(encoding="utf-8").splitlines())
        return {int(tar): int(samples) for tar, samples in words if int(tar) < self._tars}

    def _shuffled(self, epoch: int) -> Integers:
        return permutation(self._tars, self._seed, epoch, 0)


class _Reader:
    """A thread that reads and decodes samples of its tars, one after the other."""

    def __init__(self, stream: TarStream, turns: Turns, first: int, step: int, room: int) -> None:
        self._stream, self._turns, self._first, self._step = stream, turns, first, step
        self._found: Queue[_Found] = Queue(room)
        self._closed = threading.Event()
        threading.Thread(target=self._run, name="tars", daemon=True).start()

    def take(self, while_waiting: WhileWaiting = go_on_waiting) -> dict[str, Value]:
        """Return the next sample, waiting for it if need be."""
        while True:
            try:
                found = self._found.get(timeout=POLL_S)
                break
            except Empty:
                while_waiting()
        if isinstance(found, Exception):
            self._put(found)  # whoever asks again gets the same answer
            raise found
        return found

    def has_read(self, samples: int) -> bool:
        """Tell whether so many next samples are there."""
        return self._found.qsize() >= samples

    def close(self) -> None:
        """End, after the sample that is being read."""
        self._closed.set()

    def _run(self) -> None:
        try:
            for sample in self._decoded():
                if not self._put(sample):
                    return
        except Exception as error:  # of whatever kind: the rank that waits must not wait for ever
            self._put(error)

    def _put(self, found: _Found) -> bool:
        while not self._closed.is_set():
            try:
                self._found.put(found, timeout=POLL_S)
            except Full:
                continue
            return True
        return False

    def _decoded(self) -> Iterator[dict[str, Value]]:
        """Iterate over samples that can be used.

        Raises:
            DataError: one cannot, and the plan is to fail; or none of many can.
        """
        stream, in_vain = self._stream, 0
        shuffled = _buffered(self._members(), stream.plan.shuffle, f"{stream.plan.seed} {self._first}")
        for url, sample in shuffled:
            try:
                decoded = stream.reader.decode(sample)
            except (Rejected, ValueError) as error:
                in_vain += 1
                self._left_out(Fault(name_of(url, sample), str(error)), error)
                if in_vain == _IN_VAIN:
                    raise DataError(f"{in_vain} samples in a row cannot be used; the last: {url}: {error}") from None
                continue
            in_vain = 0
            yield decoded

    def _left_out(self, fault: Fault, error: Exception) -> None:
        """Tell of a sample that does not come, unless it is only too small."""
        if isinstance(error, Rejected) and error.reason == "size":
            return
        if self._stream.plan.on_corrupt == "fail":
            raise DamageError(fault)
        self._stream.faults.quarantine(fault)
        self._stream.faults.replace()

    def _members(self) -> Iterator[tuple[str, Members]]:
        """Iterate over the samples of this reader's tars, not decoded, without those that are held out."""
        stream, in_vain = self._stream, 0
        for turn in count(self._first, self._step):
            tar, found = self._turns.tar_at(turn), 0
            url = stream.tars[tar]
            try:
                for sample in stream.reader.samples(url):
                    found += 1
                    if name_of(url, sample) not in stream.held_out:
                        yield url, sample
            except DamageError as error:
                if stream.plan.on_corrupt == "fail":
                    raise
                stream.faults.quarantine(error.fault)
            self._turns.note(tar, found)
            in_vain = 0 if found else in_vain + 1
            if in_vain == len(stream.tars):
                raise DataError(f"{stream.plan.place}: no tar has a sample that can be read")


def _buffered(samples: Iterator[tuple[str, Members]], size: int, seed: str) -> Iterator[tuple[str, Members]]:
    """Shuffle through webdataset's buffer, the same way for a seed."""
    import webdataset

    chance = random.Random(seed)  # noqa: S311 - an order is no secret
    shuffled: Iterator[tuple[str, Members]] = webdataset.shuffle(size, rng=chance)(samples)
    return shuffled
