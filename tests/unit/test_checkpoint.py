from pathlib import Path
from typing import Any

import pytest
import torch

from bigtrain.checkpoint import CheckpointConfig, CheckpointError, Checkpoints
from bigtrain.core.state import Progress


class Part:
    """Something with a state."""

    def __init__(self, value: float) -> None:
        self.value = torch.tensor([value])

    def state_dict(self) -> dict[str, Any]:
        return {"value": self.value, "nested": {"list": [1, None, "x"]}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        assert state["nested"] == {"list": [1, None, "x"]}
        self.value = state["value"]


def saved(folder: Path, steps: int = 3, keep: int = 2) -> list[Path]:
    """Save after each of some steps, the part's value being the step."""
    progress, paths = Progress(1000, 10), []
    for step in range(1, steps + 1):
        progress.advance()
        objects = {"progress": progress, "part": Part(step)}
        paths.append(Checkpoints(CheckpointConfig(interval_kimg=1, keep=keep), folder, objects).save(progress))
    return paths


def loaded(folder: Path) -> tuple[Path | None, float, int]:
    progress, part = Progress(1000, 10), Part(-1)
    checkpoints = Checkpoints(CheckpointConfig(interval_kimg=1), folder, {"progress": progress, "part": part})
    return checkpoints.load_latest(), part.value.item(), progress.samples_seen


def test_the_newest_is_loaded_and_old_ones_go(tmp_path: Path, alone: None) -> None:
    assert loaded(tmp_path) == (None, -1, 0)
    paths = saved(tmp_path)
    assert [path.exists() for path in paths] == [False, True, True]
    assert loaded(tmp_path) == (paths[2], 3, 30)


def flip_a_bit(path: Path) -> None:
    data = bytearray((path / "state.pt").read_bytes())
    data[len(data) // 2] ^= 1
    (path / "state.pt").write_bytes(data)


def cut_short(path: Path) -> None:
    (path / "state.pt").write_bytes((path / "state.pt").read_bytes()[:-10])


def lose_description(path: Path) -> None:
    (path / "checkpoint.json").unlink()


@pytest.mark.parametrize("damage", [flip_a_bit, cut_short, lose_description])
def test_a_damaged_one_is_passed_over(tmp_path: Path, damage, alone: None) -> None:
    paths = saved(tmp_path)
    damage(paths[2])
    assert loaded(tmp_path) == (paths[1], 2, 20)
    damage(paths[1])
    with pytest.raises(CheckpointError, match="no whole checkpoint among 2"):
        loaded(tmp_path)


def test_a_torn_write_is_not_a_checkpoint(tmp_path: Path, alone: None) -> None:
    paths = saved(tmp_path)
    torn = tmp_path / "kimg000000.040.partial"
    torn.mkdir()
    (torn / "state.pt").write_bytes(b"half")
    assert loaded(tmp_path)[0] == paths[2]


def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path: Path, alone: None) -> None:
    saved(tmp_path)
    blocked = tmp_path / "file"
    blocked.write_text("")
    progress = Progress(1000, 10)
    checkpoints = Checkpoints(CheckpointConfig(interval_kimg=1), blocked, {"progress": progress})
    with pytest.raises(CheckpointError, match="cannot be written .*earlier ones are untouched"):
        checkpoints.save(progress)


def test_the_newest_healthy_one_is_kept_and_come_back_to(tmp_path: Path, alone: None) -> None:
    progress, part = Progress(1000, 10), Part(0)
    objects = {"progress": progress, "part": part}
    checkpoints = Checkpoints(CheckpointConfig(interval_kimg=1, keep=1), tmp_path, objects)
    for step, healthy in enumerate((True, True, False, False), 1):
        progress.advance()
        part.value = torch.tensor([float(step)])
        checkpoints.save(progress, healthy=healthy)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kimg000000.020", "kimg000000.040"]
    checkpoints.return_to_healthy()
    assert (part.value.item(), progress.samples_seen) == (2, 20)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kimg000000.020", "kimg000000.040.aside"]
    checkpoints.save(progress, healthy=False)
    with pytest.raises(CheckpointError, match="no healthy checkpoint"):
        checkpoints.return_to_healthy()
