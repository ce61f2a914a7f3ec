"""A dataset on a server that speaks S3 (moto's, as a process of its own)."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import requests

from data_pipelines.errors import DataError
from data_pipelines.read import ShardDataset
from data_pipelines.remote import RetryPolicy
from data_pipelines.shard_cache import ShardCache

pytest.importorskip("moto.server")
QUICK = RetryPolicy(attempts=2, patience_s=0.01, first_wait_s=0.01, stall_s=5)


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 60
        try:
            while True:
                try:
                    requests.put(f"{url}/sets", timeout=20).raise_for_status()  # its first answer imports much
                    break
                except (requests.ConnectionError, requests.Timeout):
                    assert time.monotonic() < deadline and process.poll() is None
                    time.sleep(0.1)
            yield url
        finally:
            process.terminate()


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")


def test_a_set_is_read_from_s3(endpoint: str, tiny_shards: Path, tmp_path: Path) -> None:
    for path in tiny_shards.iterdir():
        requests.put(f"{endpoint}/sets/tiny/{path.name}", data=path.read_bytes(), timeout=5).raise_for_status()
    dataset = ShardDataset("s3://sets/tiny", cache=ShardCache(tmp_path / "cache", 10**6, retry=QUICK))
    expected = ShardDataset(tiny_shards).read(list(dataset.locations()))
    fields = dataset.read(list(dataset.locations()))
    for name, array in expected.items():
        np.testing.assert_array_equal(fields[name], array)


def test_what_is_not_on_s3_is_said(tmp_path: Path) -> None:
    cache = ShardCache(tmp_path / "cache", 10**6, retry=QUICK)
    with pytest.raises(DataError, match="s3://sets/nothing/manifest.json: no such object"):
        ShardDataset("s3://sets/nothing", cache=cache)
    with pytest.raises(DataError, match="s3://elsewhere/set/manifest.json: "):
        ShardDataset("s3://elsewhere/set", cache=cache)


def test_without_s3fs_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(DataError, match=r"needs the package s3fs \(pip install 'bigtrain\[s3\]'\)"):
        ShardDataset("s3://sets/tiny", cache=ShardCache(tmp_path / "cache", 10**6, retry=QUICK))
