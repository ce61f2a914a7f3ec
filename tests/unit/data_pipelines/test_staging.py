import shutil
from pathlib import Path

import pytest

from data_pipelines.errors import DataError
from data_pipelines.read import ShardDataset
from data_pipelines.staging import STAGED, stage, stage_or_say_why_not


def test_a_staged_dataset_is_read_from_its_copy(
    tiny_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = tmp_path / "disk"
    copy = stage(tiny_shards, disk)
    last = sorted(tiny_shards.glob("*.tar"))[-1]
    (copy / last.name).write_bytes(b"torn")  # as a node that died while it copied leaves it
    (copy / "manifest.json").unlink()
    assert stage(tiny_shards, disk) == copy
    assert (copy / last.name).read_bytes() == last.read_bytes()
    assert ShardDataset(tiny_shards).folder == tiny_shards
    monkeypatch.setenv(STAGED, str(disk))
    assert ShardDataset(tiny_shards).folder == copy


def test_without_room_the_original_is_read(
    tiny_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(STAGED, raising=False)
    full = shutil.disk_usage(tmp_path)._replace(free=10)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: full)
    with pytest.raises(DataError, match="10 bytes are free"):
        stage(tiny_shards, tmp_path / "disk")
    stage_or_say_why_not(str(tiny_shards), str(tmp_path / "disk"))
    assert f"reading {tiny_shards} instead" in capsys.readouterr().err
    assert ShardDataset(tiny_shards).folder == tiny_shards
