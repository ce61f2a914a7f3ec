"""The watchdog on a GPU that is not there: events that take place when the test says so."""

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist

from bigtrain.distributed import watchdog
from bigtrain.distributed.device_progress import DeviceProgress
from bigtrain.distributed.init import Ranks
from bigtrain.distributed.verdict import Sign, diagnose
from bigtrain.distributed.watchdog import Watchdog, WatchdogConfig

GPU = Ranks(0, 1, 0, torch.device("cuda", 0))


class FakeEvent:
    """An event of a GPU that has done as much as `done` says."""

    made = done = 0

    def record(self) -> None:
        FakeEvent.made += 1
        self.number = FakeEvent.made

    def query(self) -> bool:
        return self.number <= FakeEvent.done


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeEvent.made = FakeEvent.done = 0
    monkeypatch.setattr(watchdog, "DeviceProgress", lambda: DeviceProgress(FakeEvent))


def test_a_gpu_is_where_the_last_event_says_that_it_has_come() -> None:
    progress = DeviceProgress(FakeEvent)
    for where, limit in (("d_main", 3.0), ("g_main", 3.0), ("between steps", 60.0)):
        progress.mark(where, limit)
    assert progress.place() is None  # it has not begun
    FakeEvent.done = 1
    place = progress.place()
    assert place is not None and (place.where, place.limit, progress.reached) == ("d_main", 3.0, 1)
    assert progress.place() == place  # the time counts from when it was first seen there
    FakeEvent.done = 3
    assert progress.place() is None  # it waits for the host


def test_a_gpu_that_failed_is_left_to_the_thread_that_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    progress = DeviceProgress(FakeEvent)
    progress.mark("d_main", 3.0)

    def failed(self: FakeEvent) -> bool:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered", 700)

    monkeypatch.setattr(FakeEvent, "query", failed)
    assert progress.place() is None


def test_a_kernel_that_hangs_is_found_by_its_phases_limit_while_the_host_pauses(tmp_path: Path) -> None:
    """Before, the host's `between steps` counted, which may take an hour."""
    watched = Watchdog(WatchdogConfig(step_seconds=0.05, pause_seconds=1000), GPU, tmp_path)
    watched.beat("between steps", pause=True)  # the first step is over
    watched.beat("d_main")
    watched.beat("g_main")
    watched.beat("between steps", pause=True)
    FakeEvent.done = 2
    assert watched._stuck() is None
    time.sleep(0.06)
    assert watched._stuck() == ("d_main on the GPU", 0.05)
    FakeEvent.done = 4
    assert watched._stuck() is None


def test_a_gpus_first_step_may_compile(tmp_path: Path) -> None:
    watched = Watchdog(WatchdogConfig(step_seconds=0.01, pause_seconds=1000), GPU, tmp_path)
    watched.beat("d_main")
    watched.beat("g_main")
    FakeEvent.done = 1
    watched._stuck()
    time.sleep(0.02)
    assert watched._stuck() is None


def test_the_gpu_that_is_behind_is_to_blame_where_the_hosts_wait_alike() -> None:
    before = {rank: Sign(rank, "here", rank, 5, 9, 40, "between steps", 7) for rank in range(3)}
    after = {rank: Sign(rank, "here", rank, 7, 9, 40, "between steps", 7 - (rank == 1)) for rank in range(3)}
    verdict = diagnose(before, after, world_size=3)
    assert [sign.rank for sign in verdict.culprits] == [1] and "the GPU of rank 1" in verdict.text


class FakeGroup:
    """A group with one backend for each device, as on GPUs."""

    def __init__(self, **begun: int) -> None:
        self._backends = {device: FakeBackend(count) for device, count in begun.items()}

    def _get_backend(self, device: torch.device) -> Any:
        if device.type not in self._backends:
            raise RuntimeError(f"No backend type associated with device type {device}")
        return self._backends[device.type]


class FakeBackend:
    """A backend that has begun so many operations."""

    def __init__(self, begun: int) -> None:
        self._begun = begun

    def _get_sequence_number_for_group(self) -> int:
        return self._begun


def test_the_operations_of_all_backends_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch asks the default backend alone, which beside NCCL leaves out gloo's."""
    groups = {FakeGroup(cpu=3, cuda=40): None, FakeGroup(cpu=5): None}
    monkeypatch.setattr(watchdog.c10d, "_world", SimpleNamespace(pg_map=groups))
    assert watchdog._collectives_begun() == 48


@pytest.mark.usefixtures("alone")
def test_a_backend_that_serves_both_devices_counts_once() -> None:
    begun = watchdog._collectives_begun()
    dist.all_reduce(torch.ones(1))
    assert watchdog._collectives_begun() == begun + 1


@pytest.mark.usefixtures("alone")
def test_nccls_recorder_is_written_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(watchdog.c10d, "get_backend_config", lambda: "cpu:gloo,cuda:nccl")
    Watchdog(WatchdogConfig(), GPU, tmp_path)._dump("20260101-000000")
    names = sorted(path.name for path in (tmp_path / "hangs" / "20260101-000000").iterdir())
    assert names == ["collectives-rank-0.json", "nccl-rank-0.json", "rank-0.txt"]
