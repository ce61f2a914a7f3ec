"""Who reads ahead: threads of this process, or processes that share memory with it."""

import mmap
import os
import pickle
import select
import signal
import struct
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from itertools import islice
from typing import Protocol

from data_pipelines.batches import BatchMaker, BatchPlan
from data_pipelines.daemons import DaemonThreads
from data_pipelines.errors import DataError
from data_pipelines.faults import FaultLog, FaultReport
from data_pipelines.fields.decoder import FieldDecoder, Fields, batch_bytes, new_batch

ORDER = struct.Struct("<qq")
"""What is sent to a reader process: the position of a batch, and the slot of the shared memory that it goes into."""

ANSWER = struct.Struct("<q")
"""What it answers: the length of the pickled pair (error or None, FaultReport) that follows."""

IGNORED = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
"""What a reader process does not take for itself: who asks all processes of a run to stop means the ranks."""


POLL_S = 0.2
"""How often whoever waits for a batch looks whether it should go on waiting."""

_Answer = tuple[str | None, FaultReport]
"""Of a process that has made a batch: the error, if it could not, and the faults that it has met."""

WhileWaiting = Callable[[], None]
"""What is called again and again while a batch is waited for; it may raise, to wait no more."""


def go_on_waiting() -> None:
    """Wait for a batch however long it takes."""


class Readers(Protocol):
    """Who makes batches ahead of their use, in the order in which they were asked for."""

    def ask(self, start: int) -> None:
        """Begin to make the batch at position `start`."""

    def take(self, while_waiting: WhileWaiting = go_on_waiting) -> Fields:
        """Return the oldest batch that was asked for, waiting for it if need be."""

    def have(self, batches: int) -> bool:
        """Tell whether the oldest so many batches that were asked for have been made."""

    def forget(self) -> None:
        """Throw away all that was asked for."""

    def close(self) -> None:
        """End."""


class ThreadReaders:
    """Reads in threads of this process.

    Args:
        maker: of the batches.
        workers: number of threads.
    """

    def __init__(self, maker: BatchMaker, workers: int) -> None:
        self._maker = maker
        self._threads = DaemonThreads(workers, "batch")
        self._pending: deque[Future[Fields]] = deque()

    def ask(self, start: int) -> None:
        """See Readers."""
        self._pending.append(self._threads.submit(self._make, start))

    def take(self, while_waiting: WhileWaiting = go_on_waiting) -> Fields:
        """See Readers."""
        future = self._pending.popleft()
        while True:
            try:
                return future.result(POLL_S)
            except TimeoutError:
                if future.done():  # it is the batch's own
                    raise
                while_waiting()

    def have(self, batches: int) -> bool:
        """See Readers."""
        return all(future.done() for future in islice(self._pending, batches))

    def forget(self) -> None:
        """See Readers."""
        for future in self._pending:
            future.cancel()
        self._pending.clear()

    def close(self) -> None:
        """See Readers."""
        self._threads.close()

    def _make(self, start: int) -> Fields:
        fields = new_batch(self._maker.decoders, self._maker.plan.size)
        self._maker.make(start, fields)
        return fields


class Slots:
    """Shared memory for some batches.

    Args:
        memory: a file descriptor of it; -1 to make it.
        decoders: of the fields.
        batch: samples of a batch.
        count: number of batches.

    Attributes:
        memory: its file descriptor.
        batches: the fields of each batch.
    """

    def __init__(self, memory: int, decoders: Mapping[str, FieldDecoder], batch: int, count: int) -> None:
        size = batch_bytes(decoders, batch)
        if memory == -1:
            memory = os.memfd_create("batches")
            os.ftruncate(memory, count * size)
        self.memory = memory
        view = memoryview(mmap.mmap(memory, count * size))
        self.batches = [new_batch(decoders, batch, view[slot * size : (slot + 1) * size]) for slot in range(count)]


class ProcessReaders:
    """Reads in processes of their own, which write into memory shared with this one.

    Batch b is made by process b mod `workers`. A process ends when this one does.

    Args:
        plan: of the batches.
        decoders: of the fields.
        faults: where theirs are added.
        workers: number of processes.
        slots: batches that there is memory for; one more than are read ahead, for the one that is in use.
    """

    def __init__(
        self, plan: BatchPlan, decoders: Mapping[str, FieldDecoder], faults: FaultLog, workers: int, slots: int
    ) -> None:
        self._faults, self._asked, self._taken = faults, 0, 0
        self._answers: deque[_Answer] = deque()  # of the batches that come next
        self._slots = Slots(-1, decoders, plan.size, slots)
        setup = pickle.dumps((plan, self._slots.memory, slots))
        self._processes = [_start(self._slots.memory, setup) for _ in range(workers)]

    def ask(self, start: int) -> None:
        """See Readers."""
        process, slot = self._of(self._asked)
        assert process.stdin is not None
        try:
            process.stdin.write(ORDER.pack(start, slot))
            process.stdin.flush()
        except BrokenPipeError:
            pass  # it has died: whoever takes the batch gets the error
        self._asked += 1

    def take(self, while_waiting: WhileWaiting = go_on_waiting) -> Fields:
        """See Readers."""
        process, slot = self._of(self._taken)
        error, report = self._answers.popleft() if self._answers else _answer(process, while_waiting)
        self._taken += 1
        self._faults.add(report)
        if error:
            raise DataError(error)
        # Single numbers, such as classes, are copied: they are small, and may outlive the batch.
        fields = self._slots.batches[slot]
        return {name: array.copy() if array.ndim == 1 else array for name, array in fields.items()}

    def have(self, batches: int) -> bool:
        """See Readers."""
        while len(self._answers) < batches:
            process = self._of(self._taken + len(self._answers))[0]
            if not _is_ready(process, 0):
                return False
            self._answers.append(_answer(process))
        return True

    def forget(self) -> None:
        """See Readers."""
        self._taken += len(self._answers)
        self._answers.clear()
        while self._taken < self._asked:
            _answer(self._of(self._taken)[0])
            self._taken += 1

    def close(self) -> None:
        """See Readers."""
        for process in self._processes:
            process.kill()
            process.communicate()

    def _of(self, number: int) -> tuple[subprocess.Popen[bytes], int]:
        """Return the process and the slot of the batch that was asked for as the `number`-th."""
        return self._processes[number % len(self._processes)], number % len(self._slots.batches)


def _start(memory: int, setup: bytes) -> subprocess.Popen[bytes]:
    # It inherits that these wait, and ignores them as soon as it can: they are for the ranks to handle.
    unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, IGNORED)
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "data_pipelines.reader_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=(memory,),
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            start_new_session=True,
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)
    assert process.stdin is not None
    process.stdin.write(ANSWER.pack(len(setup)) + setup)
    return process


def _is_ready(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Tell whether a process has answered, or has died, waiting for so long at most."""
    assert process.stdout is not None
    ready = select.poll()
    ready.register(process.stdout.fileno())
    return bool(ready.poll(1000 * seconds))


def _answer(process: subprocess.Popen[bytes], while_waiting: WhileWaiting = go_on_waiting) -> _Answer:
    assert process.stdout is not None
    answers = process.stdout.fileno()
    while not _is_ready(process, POLL_S):
        while_waiting()
    head = _read(answers, ANSWER.size)
    if len(head) < ANSWER.size:
        raise DataError(f"a process that reads data died (exit code {process.wait()}); there may be too little memory")
    answer: _Answer = pickle.loads(_read(answers, *ANSWER.unpack(head)))  # noqa: S301 - ours
    return answer


def _read(pipe: int, size: int) -> bytes:
    """Read so many bytes, fewer only at the end; a buffered file would take what `poll` waits for."""
    content = b""
    while len(content) < size and (more := os.read(pipe, size - len(content))):
        content += more
    return content
