"""What makes shards ends, wherever a signal's handler raises while it waits."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import _base
from multiprocessing import active_children
from types import FrameType
from typing import Any

import pytest

from data_pipelines.pool import _signals_held, make_all
from data_pipelines.shard import ShardResult, ShardTask
from tests.conftest import ROOT


def slowly(task: ShardTask, on_sample: Callable[[], None]) -> ShardResult:
    time.sleep(0.2)
    return ShardResult(None, [])


def stop(line: int) -> None:
    """Let an exception meet `make_all` at some line of a future's code, and assert that no process is left."""
    seen = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal seen
        seen += event == "line" and frame.f_code.co_filename == _base.__file__
        if seen == line:
            sys.settrace(None)
            raise SystemExit(3)
        return trace

    shards = make_all(slowly, [ShardTask(number, 0, ()) for number in range(20)], workers=2, on_progress=lambda _: None)
    next(shards)
    sys.settrace(trace)
    with pytest.raises(SystemExit):
        list(shards)
    assert active_children() == []


@pytest.mark.parametrize("line", [4, 7])
def test_a_stop_in_the_middle_of_a_future(line: int) -> None:
    """An exception between a lock and its release left the pool's thread waiting for ever, and the process with it."""
    code = f"from tests.unit.data_pipelines.test_pool import stop; stop({line})"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=100)


def test_signals_wait_until_processes_have_started() -> None:
    """Another thread of this process takes the signal at once, and its handler would run in the main thread."""
    taken: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, _: taken.append(number))
    over = threading.Event()
    other = threading.Thread(target=over.wait)
    other.start()
    try:
        with _signals_held():
            os.kill(os.getpid(), signal.SIGUSR1)
            time.sleep(0.05)
            assert taken == []
        assert taken == [signal.SIGUSR1]
    finally:
        signal.signal(signal.SIGUSR1, before)
        over.set()
        other.join()
