import json
import multiprocessing
import signal
from pathlib import Path
from typing import Any

import pytest

from bigtrain.core.presence import Heartbeat, RunBusyError, hold, is_held, refuse_if_held, wait_until_free
from bigtrain.core.state import Progress
from bigtrain.run.folder import mark_stopped
from bigtrain.run.supervision import supervise
from bigtrain.tracking.events import EventLog, read_events
from launch.local import LauncherExit


class Ranks:
    """Ranks that end as they are told to, each time a little further in the run."""

    def __init__(self, folder: Path, codes: list[int], *, moves: bool = True) -> None:
        self.codes, self.starts, self.moves = codes, 0, moves
        self.heartbeat, self.progress = Heartbeat(folder), Progress(1000, 10)

    def __call__(self) -> LauncherExit:
        self.starts += 1
        if self.moves:
            self.progress.advance()
        self.heartbeat.beat(self.progress, now=True)
        return LauncherExit(self.codes[self.starts - 1], f"rank 1 was killed, {self.starts}")


def never() -> None:
    return None


@pytest.mark.parametrize(
    ("codes", "allowed", "starts"),
    [
        ([0], 5, 1),
        ([137, 137, 0], 5, 3),
        ([137, 137, 137], 1, 2),
        ([137, 2], 5, 2),
        ([3], 5, 1),
        ([143], 5, 1),
        ([1], 0, 1),
    ],
)
def test_ranks_that_fail_are_started_again(tmp_path: Path, codes: list[int], allowed: int, starts: int) -> None:
    ranks = Ranks(tmp_path, codes)
    assert supervise(tmp_path, ranks, never, max_restarts=allowed) == codes[starts - 1]
    assert ranks.starts == starts
    told = [(event["event"], event["kimg"], event["cause"]) for event in read_events(tmp_path)]
    assert told == [("restart", number / 100, f"rank 1 was killed, {number}") for number in range(1, starts)]


def test_a_signal_ends_it(tmp_path: Path) -> None:
    ranks = Ranks(tmp_path, [143, 0])
    assert supervise(tmp_path, ranks, lambda: "SIGTERM", max_restarts=5) == 143
    assert ranks.starts == 1


def test_ranks_that_were_stopped_and_have_saved_are_not_started_again(tmp_path: Path) -> None:
    """torchrun, when it is asked to stop, ends with 128 + the signal, whatever its ranks make of it."""
    for signal_name, starts in (("SIGTERM", 1), ("the loss of the launcher", 2)):
        ranks = Ranks(tmp_path, [143, 0])

        def stopped(ranks: Ranks = ranks, signal_name: str = signal_name) -> LauncherExit:
            ending = ranks()
            if ending.code:
                mark_stopped(tmp_path, signal=signal_name, samples_seen=10)
            return ending

        supervise(tmp_path, stopped, never, max_restarts=5)
        assert ranks.starts == starts


def test_who_hung_is_the_cause(tmp_path: Path) -> None:
    (tmp_path / "hangs" / "20261122-134241").mkdir(parents=True)
    (tmp_path / "hangs" / "20261122-134241" / "verdict.txt").write_text("no progress for 3 s: rank 1 does not run\n")
    supervise(tmp_path, Ranks(tmp_path, [4, 0]), never, max_restarts=5)
    assert [event["cause"] for event in read_events(tmp_path)] == ["no progress for 3 s: rank 1 does not run"]


def test_it_waits_longer_where_nothing_moves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("bigtrain.run.supervision.time.monotonic", lambda: now[0])
    monkeypatch.setattr("bigtrain.run.supervision.time.sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    supervise(tmp_path, Ranks(tmp_path, [1, 1, 1, 1, 0], moves=False), never, max_restarts=9)
    assert now[0] == pytest.approx(2 + 4 + 8, abs=1)


def _hold(folder: Path, held: Any) -> None:
    lock = hold(folder, {"pid": 7, "host": "elsewhere"})
    held.set()
    signal.pause()
    assert lock


def test_a_run_folder_is_held_until_its_process_ends(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    held = context.Event()
    other = context.Process(target=_hold, args=(tmp_path, held))
    assert not is_held(tmp_path)
    other.start()
    try:
        assert held.wait(20)
        assert is_held(tmp_path)
        with pytest.raises(RunBusyError, match="process 7 on elsewhere is training here"):
            refuse_if_held(tmp_path)
        with pytest.raises(RunBusyError):
            hold(tmp_path, {}, wait_seconds=0.3)
        assert not wait_until_free(tmp_path, seconds=0.2)
    finally:
        other.kill()
        other.join()
    assert wait_until_free(tmp_path, seconds=5)
    lock = hold(tmp_path, {}, wait_seconds=5)
    assert lock is not None
    lock.close()


def test_events_survive_a_torn_line(tmp_path: Path) -> None:
    events = EventLog(tmp_path)
    events.append("start", kimg=0.0, world_size=2)
    with (tmp_path / "events.jsonl").open("a") as file:
        file.write('{"time": "2026-')
    assert [event["event"] for event in read_events(tmp_path)] == ["start"]
    assert json.loads((tmp_path / "events.jsonl").read_text().splitlines()[0])["world_size"] == 2
