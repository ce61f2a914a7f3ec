import json
import time
from pathlib import Path

import pytest

from bigtrain.build import check
from bigtrain.checkpoint.folders import FORMAT, CheckpointFolder
from bigtrain.config import TrainingConfig, load_training
from bigtrain.core.config import ConfigError
from bigtrain.core.presence import Heartbeat
from bigtrain.core.state import Progress
from bigtrain.run.failures import note_failure
from bigtrain.run.folder import check_run_folder, how_it_ended, mark_stopped, open_run_folder
from bigtrain.tracking.events import EventLog, read_events
from tests.conftest import ROOT


def tiny(folder: Path, *overrides: str) -> TrainingConfig:
    return load_training(ROOT / "tests" / "tiny.yaml", ["data.path=x", f"run_dir={folder}", *overrides])


def test_a_folder_holds_one_run(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    check_run_folder(tiny(folder), allow_change=False)
    open_run_folder(tiny(folder))
    check_run_folder(tiny(folder), allow_change=False)
    changed = tiny(folder, "total_kimg=9", "ema.half_life_kimg=3")
    with pytest.raises(ConfigError, match=r"ema.half_life_kimg: 0.2 -> 3.0; total_kimg: 3.2 -> 9.0"):
        check_run_folder(changed, allow_change=False)
    check_run_folder(changed, allow_change=True)


def test_keys_that_came_up_since_a_run_began_have_their_defaults(tmp_path: Path) -> None:
    folder = open_run_folder(tiny(tmp_path / "run"))
    saved = folder / "config.yaml"
    old = saved.read_text()
    assert "patience_seconds" in old
    saved.write_text("".join(line for line in old.splitlines(keepends=True) if "patience_seconds" not in line))
    check_run_folder(tiny(folder), allow_change=False)
    with pytest.raises(ConfigError, match=r"data.cache.patience_seconds: 240.0 -> 9.0"):
        check_run_folder(tiny(folder, "data.cache.patience_seconds=9"), allow_change=False)


def test_a_run_folder_may_move(tmp_path: Path) -> None:
    open_run_folder(tiny(tmp_path / "here"))
    (tmp_path / "here").rename(tmp_path / "there")
    check_run_folder(tiny(tmp_path / "there"), allow_change=False)


def test_it_tells_what_the_run_runs_on(tmp_path: Path) -> None:
    folder = open_run_folder(tiny(tmp_path / "run"))
    facts = json.loads((folder / "environment.json").read_text())
    assert {"git_commit", "git_dirty", "host", "command", "packages"} <= facts.keys()
    assert load_training(folder / "config.yaml") == tiny(folder)


def test_the_word_of_a_stop_counts_until_the_next_start(tmp_path: Path) -> None:
    config = tiny(tmp_path / "run")
    folder = open_run_folder(config)
    mark_stopped(folder, signal="SIGTERM", samples_seen=1600)
    words, code = how_it_ended(config, 143)
    assert code == 3
    assert "stopped by SIGTERM at kimg 1.6, all saved" in words
    open_run_folder(config)
    assert how_it_ended(config, 1) == (f"failed with exit code 1; the run folder is {folder}", 1)


def test_who_is_stopped_before_training_goes_on_has_lost_nothing(tmp_path: Path) -> None:
    config = tiny(tmp_path / "run")
    folder = open_run_folder(config)
    Heartbeat(folder).beat(Progress(1000, 10), now=True)
    now = time.time()
    assert how_it_ended(config, 143, "SIGTERM", since=now + 1) == (
        "stopped by SIGTERM before training began; the same command starts it",
        3,
    )
    assert how_it_ended(config, 137, None, since=now + 1)[1] == 137


@pytest.mark.parametrize(("code", "asked"), [(143, None), (130, "SIGINT"), (138, "SIGUSR1"), (1, "SIGTERM")])
def test_who_is_stopped_while_starting_again_or_failing_goes_on(tmp_path: Path, code: int, asked: str | None) -> None:
    folder = open_run_folder(tiny(tmp_path / "run"))
    Heartbeat(folder).beat(Progress(1000, 10), now=True)
    by = asked or "SIGTERM"
    words = f"stopped by {by} while it was starting or ending; the same command resumes from the last checkpoint"
    assert how_it_ended(tiny(folder), code, asked) == (words, 3)
    note_failure(folder, 0, RuntimeError("no more memory\nat all"))
    assert "(it failed: RuntimeError: no more memory);" in how_it_ended(tiny(folder), code, asked)[0]
    assert how_it_ended(tiny(folder), 2, asked)[1] == 2


@pytest.mark.parametrize(("fact", "words"), [("data", "contains other samples"), ("rng", "its random numbers were")])
def test_a_run_does_not_go_on_with_other_images_or_draws(tmp_path: Path, fashion: Path, fact: str, words: str) -> None:
    config = tiny(tmp_path / "run", f"data.path={fashion}")
    open_run_folder(config)
    checkpoints = CheckpointFolder(tmp_path / "run" / "checkpoints")
    path = checkpoints.name(Progress(1000, 10))
    checkpoints.begin(path)
    checkpoints.commit(path, {"format": FORMAT, fact: "another"})
    with pytest.raises(ConfigError, match=words):
        check(config, world_size=2, allow_change=False)
    check(config, world_size=2, allow_change=True)


def test_the_cause_of_a_failure_stays_in_the_events_when_the_run_is_started_again(tmp_path: Path) -> None:
    """Slurm requeues a job whose ranks lost each other; what happened was forgotten as it began again."""
    folder = open_run_folder(tiny(tmp_path / "run"))
    note_failure(folder, 0, RuntimeError("NCCL error in: ProcessGroupNCCL.cpp:2090, remote process exited\nmore"))
    open_run_folder(tiny(folder))
    open_run_folder(tiny(folder))
    assert [(event["event"], event["cause"]) for event in read_events(folder)] == [
        ("failed", "all ranks lost their connections: check the network; rank 0: RuntimeError: NCCL error in: "
         "ProcessGroupNCCL.cpp:2090, remote process exited")
    ]  # fmt: skip
    note_failure(folder, 0, ValueError("its own"))
    EventLog(folder).append("restart", cause="the launcher's words", number=1, of=5)
    open_run_folder(tiny(folder))
    assert [event["event"] for event in read_events(folder)] == ["failed", "restart"]
