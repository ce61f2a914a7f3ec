"""Who holds a run folder: a launcher that died, another boot of the machine, another container."""

import fcntl
import json
import os
import subprocess
import threading
from pathlib import Path

import pytest

from bigtrain.core import presence
from bigtrain.core.launchers import COMMAND
from bigtrain.core.presence import LOCK, RunBusyError, hold, is_held, place_of_this_process, read_place, refuse_if_held


def held_by(folder: Path, **facts: object) -> object:
    file = (folder / LOCK).open("a+")
    fcntl.flock(file, fcntl.LOCK_EX)
    (folder / LOCK).write_text(json.dumps({**place_of_this_process(), **facts}))
    return file


@pytest.fixture
def dead() -> int:
    """The number of a process that has ended."""
    with subprocess.Popen(["true"]) as process:
        process.wait()
    return process.pid


def test_ranks_that_have_lost_their_launcher_are_waited_for(
    tmp_path: Path, dead: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = held_by(tmp_path, command=str(dead))
    threading.Timer(0.3, lock.close).start()  # type: ignore[attr-defined]
    caplog.set_level("INFO", logger="bigtrain")
    monkeypatch.setattr(presence.log, "propagate", True)
    refuse_if_held(tmp_path)
    assert "has lost its launcher, saves and exits: waiting for it" in caplog.text


def test_a_second_start_is_refused_at_once(tmp_path: Path, dead: int) -> None:
    for facts in ({"command": str(os.getpid())}, {}, {"command": str(dead), "namespace": "pid:[1]"}):
        lock = held_by(tmp_path, **facts)
        with pytest.raises(RunBusyError, match=f"process {os.getpid()} on .* is training here") as caught:
            refuse_if_held(tmp_path)
        assert ("another container" in str(caught.value)) == ("namespace" in facts)
        lock.close()  # type: ignore[attr-defined]


def test_a_lock_of_a_former_boot_is_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "_SETTLE_SECONDS", 0.01)
    stale = held_by(tmp_path, boot="an earlier one")
    assert not is_held(tmp_path)
    refuse_if_held(tmp_path)
    ours = hold(tmp_path, place_of_this_process(), wait_seconds=0)
    assert ours is not None
    assert read_place(tmp_path)["boot"] != "an earlier one"
    assert is_held(tmp_path)
    ours.close()
    stale.close()  # type: ignore[attr-defined]


def test_ranks_know_their_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(COMMAND, "17")
    assert place_of_this_process()["command"] == "17"
