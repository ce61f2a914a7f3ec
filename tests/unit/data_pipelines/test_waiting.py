"""Whoever waits for a batch can give up, and the threads that wait for a server do not keep the process."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from data_pipelines import daemons
from data_pipelines.batches import BatchPlan, CachePlan
from data_pipelines.stream import Loader
from data_pipelines.streams import Streams
from tests.unit.data_pipelines.faulty_server import serve


class EnoughError(Exception):
    """The wait is over."""


def give_up() -> None:
    raise EnoughError


@pytest.mark.parametrize("loader", ["threads", "processes"])
def test_a_batch_of_a_server_that_stalls_can_be_given_up(
    tiny_shards: Path, tmp_path: Path, loader: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemons, "_LEAVE_S", 0.1)
    cache, before = CachePlan(folder=str(tmp_path / "cache")), set(threading.enumerate())
    with serve(tiny_shards) as server:
        server.misdeeds = {path.name: ["stall"] * 100 for path in tiny_shards.glob("*.tar")}
        plan = BatchPlan(server.url, seed=5, global_batch=12, window=1, cache=cache)
        streams = Streams({"": plan}, loader=loader, while_waiting=give_up)
        streams.seek(0)
        with pytest.raises(EnoughError):
            next(streams)
        assert not streams.has_read(1)
        began = time.monotonic()
        streams.close()
        assert time.monotonic() - began < 5
    while [one for one in set(threading.enumerate()) - before if one.name in ("batch", "fetch")]:
        assert time.monotonic() - began < 60, "threads of a closed stream go on asking its server"
        time.sleep(0.05)


ENDS = """
import time
from data_pipelines import daemons
daemons._LEAVE_S = 0.1
from data_pipelines.daemons import DaemonThreads
threads = DaemonThreads(2, "waits")
assert threads.submit(pow, 2, 3).result() == 8
failed = threads.submit(int, "x")
assert isinstance(failed.exception(), ValueError)
begun = [threads.submit(time.sleep, 60) for _ in range(2)]
waiting = threads.submit(pow, 2, 3)
time.sleep(0.1)
threads.close()
assert waiting.cancelled()
"""


def test_a_thread_that_waits_does_not_keep_its_process() -> None:
    began = time.monotonic()
    assert subprocess.run([sys.executable, "-c", ENDS], timeout=50).returncode == 0
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("loader", ["threads", "processes"])
def test_what_has_been_read_is_known_and_comes_in_order(tiny_shards: Path, loader: Loader) -> None:
    plan = BatchPlan(str(tiny_shards), seed=5, global_batch=12, window=2)
    expected, streams = (Streams({"": plan}, loader=one, workers=2) for one in ("threads", loader))
    for stream in (expected, streams):
        stream.seek(0)
    assert not streams.has_read(1)  # nothing has been asked for
    for _ in range(4):
        batch, other = next(streams), next(expected)
        assert (batch.fields["image"] == other.fields["image"]).all()
        deadline = time.monotonic() + 20
        while not streams.has_read(2):
            assert time.monotonic() < deadline
    streams.seek(24)
    assert not streams.has_read(1)
    assert next(streams).positions[0] == 24
    for stream in (expected, streams):
        stream.close()
