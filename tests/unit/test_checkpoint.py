import contextlib
import json
import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from bigtrain.checkpoint import CheckpointConfig, CheckpointError, Checkpoints, load_state
from bigtrain.checkpoint.folders import CheckpointFolder
from bigtrain.checkpoint.retention import Entry, surplus
from bigtrain.core.state import Progress

pytestmark = pytest.mark.usefixtures("alone")


class Part:
    """Something with a state."""

    def __init__(self, value: float) -> None:
        self.value = torch.full((2, 3, 4, 4), value).to(memory_format=torch.channels_last)

    def state_dict(self) -> dict[str, Any]:
        step = torch.tensor(self.value.max().item())
        return {"value": self.value, "step": step, "nested": {"list": [1, None, "x", 0.1, step.int()], "none": {}}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        assert state["nested"] == {"list": [1, None, "x", 0.1, int(state["step"])], "none": {}}
        self.value = state["value"]


class Saver:
    """A run that saves after each step; its part's value is the step's number."""

    def __init__(self, folder: Path, **config: Any) -> None:
        self.progress, self.part, self.damaged = Progress(1000, 10), Part(-1), []
        objects = {"progress": self.progress, "part": self.part}
        settings = CheckpointConfig(**{"interval_kimg": 1, **config})
        self.checkpoints = Checkpoints(settings, folder, objects, on_damage=self.damaged.append)

    def save(self, steps: int = 1, *, healthy: bool = True) -> list[Path]:
        paths = []
        for _ in range(steps):
            self.progress.advance()
            self.part.value.fill_(self.progress.step)
            paths.append(self.checkpoints.save(self.progress, healthy=healthy))
            self.part.value.fill_(-2)  # what is trained on while the thread writes is not in it
            self.checkpoints.wait()
        return paths

    def load(self) -> tuple[Path | None, float, int]:
        return self.checkpoints.load_latest(), self.part.value.max().item(), self.progress.samples_seen


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_newest_is_loaded_and_old_ones_go(tmp_path: Path) -> None:
    assert Saver(tmp_path).load() == (None, -1, 0)
    paths = Saver(tmp_path).save(3)
    assert names(tmp_path) == ["kimg000000.020", "kimg000000.030", "latest"]
    assert (tmp_path / "latest").read_text() == "kimg000000.030\n"
    assert Saver(tmp_path).load() == (paths[2], 3, 30)


def test_nothing_in_it_needs_code_to_be_read(tmp_path: Path) -> None:
    (path,) = Saver(tmp_path).save()
    assert names(path) == ["checkpoint.json", "shard-00001-model-00001-of-00001.safetensors"]
    description = json.loads((path / "checkpoint.json").read_text())
    assert description["state"]["progress"] == {"samples_seen": 10}
    assert torch.equal(load_state(path)["part"]["value"], torch.ones(2, 3, 4, 4))


def test_all_is_on_disk_before_it_gets_its_name_and_latest_moves_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []

    def flush(file: Any, fsync: Any = os.fsync) -> None:
        number = file if isinstance(file, int) else file.fileno()
        told.append(f"flush {Path(f'/proc/self/fd/{number}').readlink().name}")
        fsync(file)

    def rename(path: Path, target: Path, act: Any) -> Path:
        told.append(f"name {target.name}")
        return act(path, target)

    monkeypatch.setattr("os.fsync", flush)
    for name in ("rename", "replace"):
        act = getattr(Path, name)
        monkeypatch.setattr(Path, name, lambda path, target, act=act: rename(path, target, act))
    (path,) = Saver(tmp_path).save()
    partial = f"{path.name}.partial"
    tensors = f"flush {tensors_of(path).name}"
    described, named, latest = (told.index(f"name {one}") for one in ("checkpoint.json", path.name, "latest"))
    assert told.index(tensors) < described < told.index(f"flush {partial}") < named
    assert told[described - 1].startswith("flush .checkpoint.json.")
    assert named < told.index(f"flush {tmp_path.name}") < latest
    assert told[latest - 1].startswith("flush .latest.")
    assert latest == len(told) - 1


def tensors_of(path: Path) -> Path:
    return next(path.glob("*.safetensors"))


def flip_a_bit(path: Path) -> None:
    data = bytearray(tensors_of(path).read_bytes())
    data[len(data) // 2] ^= 1
    tensors_of(path).write_bytes(data)


def cut_short(path: Path) -> None:
    tensors_of(path).write_bytes(tensors_of(path).read_bytes()[:-10])


def lose_tensors(path: Path) -> None:
    tensors_of(path).unlink()


def lose_description(path: Path) -> None:
    (path / "checkpoint.json").unlink()


def flip_in_description(path: Path) -> None:
    text = (path / "checkpoint.json").read_text()
    (path / "checkpoint.json").write_text(text.replace('"samples_seen": 30', '"samples_seen": 31'))


@pytest.mark.parametrize("damage", [flip_a_bit, cut_short, lose_tensors, lose_description, flip_in_description])
def test_a_damaged_one_is_passed_over(tmp_path: Path, damage) -> None:
    paths = Saver(tmp_path).save(3)
    damage(paths[2])
    again = Saver(tmp_path, keep=1)
    assert again.load() == (paths[1], 2, 20)
    assert again.damaged == [paths[2]]
    assert names(tmp_path) == ["kimg000000.020", "kimg000000.030.damaged", "latest"]
    again.progress.batch = 5
    again.save()
    assert names(tmp_path) == ["kimg000000.025", "latest"]  # the damaged one did not count as the newest


def test_with_none_that_is_whole_it_says_so(tmp_path: Path) -> None:
    for path in Saver(tmp_path).save(2):
        flip_a_bit(path)
    with pytest.raises(CheckpointError, match="no complete checkpoint among 2"):
        Saver(tmp_path).load()


def test_what_an_interruption_leaves_is_put_in_order(tmp_path: Path) -> None:
    paths = Saver(tmp_path).save(3)
    torn = tmp_path / "kimg000000.040.partial"
    torn.mkdir()
    (torn / "shard-00001-model-00001-of-00001.safetensors").write_bytes(b"half")
    paths[2].rename(paths[2].with_name("kimg000000.030.replaced"))  # killed between the two renames of a replacement
    assert Saver(tmp_path).load() == (paths[2], 3, 30)
    assert names(tmp_path) == ["kimg000000.020", "kimg000000.030", "latest"]


def test_one_of_the_same_place_is_replaced(tmp_path: Path) -> None:
    saver = Saver(tmp_path)
    saver.save(2)
    saver.progress.samples_seen -= 10
    saver.save(healthy=False)
    assert names(tmp_path) == ["kimg000000.010", "kimg000000.020", "latest"]
    assert not json.loads((tmp_path / "kimg000000.020" / "checkpoint.json").read_text())["healthy"]


def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(CheckpointError, match="cannot be written .*earlier ones are untouched"):
        Saver(blocked).save()


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    """Files may not grow past 1 kB: what a full disk does, in the writing of the tensors."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        yield
    finally:  # before pytest reports, whose output may be a file as well
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_leaves_the_one_before(tmp_path: Path) -> None:
    saver = Saver(tmp_path)
    (path,) = saver.save()
    before = names(tmp_path)
    saver.progress.advance()
    with full_disk():
        saver.checkpoints.save(saver.progress)
        while saver.checkpoints._writing and not saver.checkpoints._writing.done():
            pass
        failed = saver.checkpoints.failed
    assert failed
    with pytest.raises(CheckpointError, match=r"kimg000000.020: .* cannot be written .*File too large"):
        saver.checkpoints.wait()
    assert names(tmp_path) == before
    assert Saver(tmp_path).load() == (path, 1, 10)


def test_the_newest_healthy_one_is_kept_and_come_back_to(tmp_path: Path) -> None:
    saver = Saver(tmp_path, keep=1)
    for healthy in (True, True, False, False):
        saver.save(healthy=healthy)
    assert names(tmp_path) == ["kimg000000.020", "kimg000000.040", "latest"]
    saver.checkpoints.return_to_healthy()
    assert (saver.part.value.max(), saver.progress.samples_seen) == (2, 20)
    assert names(tmp_path) == ["kimg000000.020", "kimg000000.040.aside", "latest"]
    saver.save(healthy=False)
    flip_a_bit(tmp_path / "kimg000000.020")
    with pytest.raises(CheckpointError, match="no healthy checkpoint"):
        saver.checkpoints.return_to_healthy()


def entry(step: int, *, healthy: bool = True, best: bool = False) -> Entry:
    return Entry(Path(f"{step}"), step * 1000, healthy, best, 1_000_000_000)


@pytest.mark.parametrize(
    ("config", "stays"),
    [
        ({"keep": 2}, [9, 10]),
        ({"keep": 1, "keep_every_kimg": 4.0}, [4, 8, 10]),
        ({"keep": 1, "keep_every_kimg": 2.5}, [3, 5, 8, 10]),
        ({"keep": 3, "max_gb": 2.0}, [9, 10]),
        ({"keep": 3, "keep_every_kimg": 2.0, "max_gb": 4.0}, [6, 8, 9, 10]),
        ({"keep": 3, "max_gb": 0.1}, [10]),
    ],
)
def test_which_stay(config: dict[str, Any], stays: list[int]) -> None:
    entries = [entry(step) for step in range(1, 11)]
    gone = surplus(entries, CheckpointConfig(interval_kimg=1, **config))
    assert sorted(int(one.path.name) for one in entries if one not in gone) == stays


def test_the_best_and_the_newest_healthy_one_stay_besides() -> None:
    entries = [entry(step, healthy=step < 7, best=step in (2, 3)) for step in range(1, 11)]
    for config, stays in (({}, [3, 6, 10]), ({"keep_best": False}, [6, 10]), ({"max_gb": 1.0}, [6, 10])):
        gone = surplus(entries, CheckpointConfig(interval_kimg=1, keep=1, **config))
        assert sorted(int(one.path.name) for one in entries if one not in gone) == stays


def test_the_best_is_the_checkpoint_after_its_evaluation(tmp_path: Path) -> None:
    saver = Saver(tmp_path, keep=1)
    saver.save()
    saver.checkpoints.note_best()
    saver.save(3)
    assert names(tmp_path) == ["kimg000000.020", "kimg000000.040", "latest"]


def test_removing_is_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = Saver(tmp_path).save(2)
    monkeypatch.setattr("bigtrain.checkpoint.folders.shutil.rmtree", lambda *_, **__: None)
    CheckpointFolder(tmp_path).prune(CheckpointConfig(interval_kimg=1, keep=1))
    monkeypatch.undo()
    assert names(tmp_path) == ["kimg000000.010.partial", "kimg000000.020", "latest"]
    assert Saver(tmp_path).load()[0] == paths[1]
    assert names(tmp_path) == ["kimg000000.020", "latest"]
