"""Make shards on several cores: one process a core, one shard at a time in each."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import active_children, get_context, parent_process
from queue import Empty, SimpleQueue
from typing import Any

from data_pipelines.errors import DataError
from data_pipelines.shard import ShardResult, ShardTask

Make = Callable[[ShardTask, Callable[[], None]], ShardResult]
"""Makes one shard; calls its second argument after each sample."""

_PARENTS = (signal.SIGINT, signal.SIGUSR1)
"""Signals that the parent handles for all its processes; SIGTERM is how the pool itself ends them."""

_BLOCKED = (*_PARENTS, signal.SIGTERM)
"""Signals that wait until the pool has been started; a new process takes them when it has set itself up."""

_ECHO_SECONDS = 0.5
"""A signal that ended one of the processes may have been sent to this one too, which ends by it then."""


def make_all(
    make: Make, tasks: Sequence[ShardTask], *, workers: int, on_progress: Callable[[int], None]
) -> Iterator[tuple[ShardTask, ShardResult]]:
    """Make shards, and yield each when it is done, in any order.

    Args:
        make: picklable; it is sent to each process once.
        tasks: what to make.
        workers: processes; 1 works in this one.
        on_progress: called now and then with the number of samples done.

    Raises:
        DataError: a process was killed.
    """
    if min(workers, len(tasks)) <= 1:
        yield from _make_here(make, tasks, on_progress)
        return
    context = get_context("spawn")  # a fork would copy the threads' locks of a progress bar
    done = context.Value("q", 0)
    pool = ProcessPoolExecutor(min(workers, len(tasks)), context, _start_process, (make, done))
    # A signal's handler may raise anywhere in this thread. In `concurrent.futures.wait` it would leave futures locked,
    # for which the pool's thread would wait for ever; a SimpleQueue has no such lock.
    finished: SimpleQueue[Future[ShardResult]] = SimpleQueue()
    try:
        with _signals_held():
            pending: dict[Future[ShardResult], ShardTask] = {pool.submit(_make_there, task): task for task in tasks}
            for future in pending:
                future.add_done_callback(finished.put)
        while pending:
            try:
                future = finished.get(timeout=0.2)
            except Empty:
                on_progress(done.value)
                continue
            on_progress(done.value)
            yield pending.pop(future), future.result()
    except BrokenProcessPool:
        time.sleep(_ECHO_SECONDS)
        raise DataError(
            "a process that made shards was killed (out of memory?); run the same command again to continue, "
            "if necessary with fewer --workers"
        ) from None
    except BaseException:  # whoever breaks it off does not wait for shards, which the next call makes anew
        for process in active_children():
            process.kill()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _signals_held() -> Iterator[None]:
    """Let signals wait: in this thread, in threads and processes that are started here, and in other threads' hands.

    A thread that does not block a signal takes it for the whole process, and Python then calls its handler in the main
    thread. The handlers are therefore replaced as well.
    """
    held: list[int] = []
    handlers: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for number in _BLOCKED:
            if callable(signal.getsignal(number)):
                handlers[number] = signal.signal(number, lambda number, _: held.append(number))
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _BLOCKED)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        for one, handler in handlers.items():
            signal.signal(one, handler)
        for one in held:
            signal.raise_signal(one)


def _make_here(
    make: Make, tasks: Sequence[ShardTask], on_progress: Callable[[int], None]
) -> Iterator[tuple[ShardTask, ShardResult]]:
    done = 0

    def on_sample() -> None:
        nonlocal done
        done += 1
        on_progress(done)

    for task in tasks:
        yield task, make(task, on_sample)


_make: Make
_done: Any


def _start_process(make: Make, done: Any) -> None:
    """Set up a process of the pool, which ends when the one that started it does, however that ends."""
    global _make, _done
    _make, _done = make, done
    for number in _PARENTS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _BLOCKED)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _make_there(task: ShardTask) -> ShardResult:
    return _make(task, _count_sample)


def _count_sample() -> None:
    with _done.get_lock():
        _done.value += 1
