"""Threads that do work in the background, and do not keep the process from ending."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

Result = TypeVar("Result")

_LEAVE_S = 1.0
"""How long `close` waits for what is being done; only who waits for a server takes longer."""

_Task = tuple[Future[Any], Callable[..., Any], tuple[Any, ...]]


class DaemonThreads:
    """A pool of threads whose process may end while one of them waits for a server.

    `concurrent.futures.ThreadPoolExecutor` makes the interpreter wait for its threads: for minutes, where a server has
    stalled. Unlike its threads, these are all started at once.

    Args:
        count: number of threads.
        name: of each.
    """

    def __init__(self, count: int, name: str) -> None:
        self._tasks: SimpleQueue[_Task | None] = SimpleQueue()
        self._threads = [threading.Thread(target=self._run, name=name, daemon=True) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def submit(self, function: Callable[..., Result], *arguments: Any) -> Future[Result]:
        """Have `function(*arguments)` called; tasks are begun in the order in which they were given."""
        future: Future[Result] = Future()
        self._tasks.put((future, function, arguments))
        return future

    def close(self) -> None:
        """Begin nothing new."""
        while (task := self._next()) is not None:
            task[0].cancel()
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            thread.join(_LEAVE_S / len(self._threads))

    def _next(self) -> _Task | None:
        try:
            return self._tasks.get_nowait()
        except Empty:
            return None

    def _run(self) -> None:
        while (task := self._tasks.get()) is not None:
            future, function, arguments = task
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(function(*arguments))
            except BaseException as error:
                future.set_exception(error)
            del task, future, function, arguments  # else the last batch would live until the next one comes
