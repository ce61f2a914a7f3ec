"""Fixtures that several kinds of test share."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist

from bigtrain import cli
from data_pipelines.prepare import NAMED_SOURCES
from data_pipelines.prepare.arrays import from_arrays
from data_pipelines.source import Source
from data_pipelines.write import ShardOptions, write_shards

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session", autouse=True)
def _private_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep tests out of the user's cache, and one rank to one thread, in child processes too."""
    os.environ["BIGTRAIN_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield


@pytest.fixture(autouse=True)
def _no_tracking_server() -> Iterator[None]:
    """Let no training of a test report to the server of another: MLflow keeps the last address in the environment."""
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    yield
    os.environ.pop("MLFLOW_TRACKING_URI", None)


@pytest.fixture
def bigtrain(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run a command in this process; return its exit code and what it wrote to stdout and to stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["bigtrain", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return ended.value.code or 0, out, err

    return run


@pytest.fixture
def alone() -> Iterator[None]:
    """A process group of one."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def tiny_source(count: int = 50, *, size: int = 8, channels: int = 1, classes: int = 3, seed: int = 0) -> Source:
    """Random images, labels in turn."""
    images = np.random.default_rng(seed).integers(0, 256, (count, channels, size, size), dtype=np.uint8)
    labels = [number % classes if classes else -1 for number in range(count)]
    names = [f"class {number}" for number in range(classes)]
    return from_arrays("tiny", images, labels, classes=names, licence="none", origin="random numbers")


@pytest.fixture
def tiny_shards(tmp_path: Path) -> Path:
    """A dataset of 50 images in shards of 8."""
    write_shards(tiny_source(), tmp_path / "tiny", ShardOptions(shard_samples=8))
    return tmp_path / "tiny"


@pytest.fixture(scope="session")
def fashion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded Fashion-MNIST images as shards."""
    folder = tmp_path_factory.mktemp("data") / "fashion-mnist-10k"
    write_shards(NAMED_SOURCES["fashion-mnist-10k"]("all"), folder)
    return folder


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
