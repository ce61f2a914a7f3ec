"""What a trial tells Ray of how its ranks ended; the ranks are a stand-in, the run folder is real."""

import json
from pathlib import Path
from typing import Any

import pytest

from launch.sweep import trial
from launch.sweep.trial import RunTrial


class Ended:
    """Ranks that have ended."""

    def __init__(self, code: int | None) -> None:
        self.code, self.stopped = code, False

    def poll(self) -> int | None:
        return self.code

    def stop(self) -> None:
        self.stopped = True

    def why(self) -> str:
        return "rank 0 was killed by SIGKILL"


def a_trial(folder: Path, monkeypatch: pytest.MonkeyPatch, ranks: Ended, **facts: Any) -> RunTrial:
    run = folder / "trial-003"
    run.mkdir()
    spec = {"number": 3, "name": "trial-003", "folder": str(run), "metric": "fid", "samples": 500}
    path = folder / "trial-003.json"
    path.write_text(json.dumps({**spec, "stop_at_kimg": None, "backend": {"kind": "ray"}, **facts}))
    monkeypatch.setattr(trial, "_start", lambda spec, cores: ranks)
    monkeypatch.setattr(trial, "_PULSE_SECONDS", 0.3)
    return RunTrial(config={"spec": str(path), "cores": 1.0})


def test_a_trial_that_runs_tells_so_again_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ranks = Ended(None)
    running = a_trial(tmp_path, monkeypatch, ranks)
    told = running.step()
    assert (told["number"], told["scores"], told["done"], told["boundary"]) == (3, [], False, False)
    running.cleanup()
    assert ranks.stopped


@pytest.mark.parametrize(
    ("code", "by", "ended"), [(0, None, "complete"), (2, None, "failed"), (3, "mode collapse", "failed")]
)
def test_an_end_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, by: str | None, ended: str) -> None:
    over = a_trial(tmp_path, monkeypatch, Ended(code))
    if by:
        (tmp_path / "trial-003" / "stopped.json").write_text(json.dumps({"signal": by, "samples_seen": 1}))
    told = over.step()
    assert (told["ended"], told["done"]) == (ended, True)


@pytest.mark.parametrize(("code", "by"), [(137, None), (4, None), (3, "SIGTERM")])
def test_a_failure_is_for_ray_to_try_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, by: str | None
) -> None:
    failed = a_trial(tmp_path, monkeypatch, Ended(code))
    if by:
        (tmp_path / "trial-003" / "stopped.json").write_text(json.dumps({"signal": by, "samples_seen": 1}))
    with pytest.raises(RuntimeError, match="trial-003: rank 0 was killed by SIGKILL"):
        failed.step()


def test_a_boundary_is_told_by_who_stopped_there_and_by_who_was_there_already(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopping = a_trial(tmp_path, monkeypatch, Ended(3), stop_at_kimg=0.8)
    run = tmp_path / "trial-003"
    (run / "stopped.json").write_text(json.dumps({"signal": "request", "samples_seen": 800}))
    assert stopping.step()["boundary"]
    (run / "checkpoints" / "kimg000000.800").mkdir(parents=True)
    again = RunTrial(config={"spec": str(tmp_path / "trial-003.json"), "cores": 1.0})
    monkeypatch.setattr(trial, "_start", None)  # nothing is started for that
    assert again.step()["boundary"]


def test_a_trial_that_lost_its_driver_at_a_boundary_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may not have been evaluated there, and a trial without a score would be replaced by another."""
    stopped = a_trial(tmp_path, monkeypatch, Ended(None), stop_at_kimg=0.8)
    run = tmp_path / "trial-003"
    (run / "checkpoints" / "kimg000000.800").mkdir(parents=True)
    (run / "stopped.json").write_text(json.dumps({"signal": "the loss of the launcher", "samples_seen": 800}))
    assert not stopped.step()["boundary"]
