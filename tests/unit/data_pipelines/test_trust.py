"""A dataset folder from a stranger, whose manifest names a command or files of this machine."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bigtrain.cli import app
from data_pipelines.batches import BatchPlan
from data_pipelines.errors import DataError
from data_pipelines.faults import FaultLog
from data_pipelines.manifest import Manifest
from data_pipelines.read import ShardDataset
from data_pipelines.trust import TRUSTED
from data_pipelines.verify import verify


@pytest.fixture
def trap(tiny_shards: Path) -> Path:
    """The file that the dataset `tiny_shards` makes if its command is run; the command then sends the right shard."""
    trap = tiny_shards.parent / "trap"
    with_first_shard(tiny_shards, f"pipe:touch {trap}; cat {tiny_shards}/shard-000000.tar")
    return trap


def with_first_shard(dataset: Path, url: str) -> None:
    manifest = Manifest.load(dataset)
    first, *others = manifest.shards
    replace(manifest, shards=(replace(first, url=url), *others)).save(dataset)


READERS: dict[str, Callable[[Path], object]] = {
    "info": lambda folder: CliRunner().invoke(app, ["data", "info", str(folder)], catch_exceptions=False),
    "verify": lambda folder: verify(folder),
    "verify --deep": lambda folder: verify(folder, deep=True),
    "read": lambda folder: ShardDataset(folder).shard(0),
    "train": lambda folder: BatchPlan(str(folder), seed=0, global_batch=4, on_corrupt="replace").open(FaultLog(None)),
}


@pytest.mark.parametrize("reader", READERS)
def test_a_strangers_dataset_runs_no_command(
    tiny_shards: Path, trap: Path, monkeypatch: pytest.MonkeyPatch, reader: str
) -> None:
    monkeypatch.setenv("BIGTRAIN_CACHE", str(tiny_shards.parent / "cache"))
    with pytest.raises(DataError, match=f"{tiny_shards}/manifest.json: reading it would run the shell command 'touch"):
        READERS[reader](tiny_shards)
    assert not trap.exists()


@pytest.mark.parametrize(("trusted", "runs"), [("{}/tiny", True), ("{0}/x:{0}", True), ("{}/ti", False), ("", False)])
def test_only_a_trusted_dataset_runs_its_commands(
    tiny_shards: Path, trap: Path, monkeypatch: pytest.MonkeyPatch, trusted: str, runs: bool
) -> None:
    monkeypatch.setenv("BIGTRAIN_CACHE", str(tiny_shards.parent / "cache"))
    monkeypatch.setenv(TRUSTED, trusted.format(tiny_shards.parent))
    if runs:
        ShardDataset(tiny_shards).shard(0)
    else:
        with pytest.raises(DataError, match=f"set {TRUSTED}={tiny_shards}, or call bigtrain --trusted-data"):
            ShardDataset(tiny_shards)
    assert trap.exists() == runs


@pytest.mark.parametrize("deep", [False, True])
def test_a_trusted_dataset_is_not_verified_by_commands(
    tiny_shards: Path, trap: Path, monkeypatch: pytest.MonkeyPatch, deep: bool
) -> None:
    monkeypatch.setenv(TRUSTED, str(tiny_shards))
    with pytest.raises(DataError, match="never done to describe or verify"):
        verify(tiny_shards, deep=deep)
    assert not trap.exists()


def test_the_option_is_inherited_by_what_a_command_starts(tiny_shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TRUSTED, raising=False)
    monkeypatch.setattr("bigtrain.report.dataset_info.describe", lambda manifest: print(os.environ.get(TRUSTED)))
    shown = CliRunner().invoke(app, ["--trusted-data", "a:b", "data", "info", str(tiny_shards)])
    assert shown.output.startswith("a:b\n")


def test_a_shard_elsewhere_on_this_machine_is_a_regular_file_of_the_stated_size(tiny_shards: Path) -> None:
    moved = tiny_shards.parent / "elsewhere.tar"
    (tiny_shards / "shard-000000.tar").rename(moved)
    with_first_shard(tiny_shards, str(moved))
    ShardDataset(tiny_shards).shard(0)
    moved.write_bytes(moved.read_bytes()[:-512])
    with pytest.raises(DataError, match="the manifest says"):
        ShardDataset(tiny_shards).shard(0)
    moved.unlink()
    os.mkfifo(moved)
    with pytest.raises(DataError, match="not a regular file"):
        ShardDataset(tiny_shards).shard(0)
