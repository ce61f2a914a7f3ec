"""Shards that lie elsewhere: servers that misbehave, S3, pipes, a full disk, a cache that several processes share."""

import fcntl
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from data_pipelines.batches import BatchMaker, BatchPlan
from data_pipelines.errors import DataError, UnreachableError
from data_pipelines.faults import FaultLog
from data_pipelines.fields.decoder import new_batch
from data_pipelines.manifest import Manifest
from data_pipelines.read import ShardDataset
from data_pipelines.remote import (
    FetchError,
    FinalFetchError,
    NotAllowedError,
    RetryPolicy,
    WrongContentError,
    chunks_of,
    is_remote,
    with_retries,
)
from data_pipelines.shard_cache import ShardCache
from data_pipelines.shard_table import Shard
from data_pipelines.trust import TRUSTED
from tests.unit.data_pipelines.faulty_server import FaultyServer, serve

QUICK = RetryPolicy(attempts=4, patience_s=0.7, first_wait_s=0.01, stall_s=0.3)


@pytest.fixture
def server(tiny_shards: Path) -> Iterator[FaultyServer]:
    with serve(tiny_shards) as running:
        yield running


@pytest.fixture
def cache(tmp_path: Path) -> ShardCache:
    return ShardCache(tmp_path / "cache", 10**6, retry=QUICK)


def everything(dataset: ShardDataset) -> np.ndarray:
    return dataset.read(list(dataset.locations()))["image"]


def test_a_set_is_read_from_a_server_once(server: FaultyServer, tiny_shards: Path, cache: ShardCache) -> None:
    for url in (server.url, f"{server.url}/", f"{server.url}/manifest.json"):
        dataset = ShardDataset(url, cache=cache)
        assert not dataset.is_local
        np.testing.assert_array_equal(everything(dataset), everything(ShardDataset(tiny_shards)))
    assert {name: count for name, count in server.requests.items() if count > 1} == {"manifest.json": 3}
    assert cache.faults.retries == 0


@pytest.mark.parametrize("misdeed", ["503", "500", "429", "stall", "reset", "truncate", "flip", "more"])
def test_what_may_pass_is_tried_again(server: FaultyServer, tiny_shards: Path, cache: ShardCache, misdeed: str) -> None:
    server.misdeeds = {"shard-000001.tar": [misdeed] * 2}
    np.testing.assert_array_equal(
        everything(ShardDataset(server.url, cache=cache)), everything(ShardDataset(tiny_shards))
    )
    assert server.requests["shard-000001.tar"] == 3
    assert cache.faults.retries == 2
    assert not list(cache.folder.glob("*.partial"))


@pytest.mark.parametrize("misdeed", ["503", "reset", "truncate", "flip"])
def test_an_index_is_the_one_that_the_manifest_lists(
    server: FaultyServer, tiny_shards: Path, cache: ShardCache, misdeed: str
) -> None:
    """A flipped bit in it would change a label, or damage a sample for as long as the cache keeps it."""
    index = Manifest.load(tiny_shards).shards[1].index
    server.misdeeds = {index: [misdeed] * 2}
    theirs, ours = ShardDataset(server.url, cache=cache), ShardDataset(tiny_shards)
    np.testing.assert_array_equal(everything(theirs), everything(ours))
    assert (theirs.folder / index).read_bytes() == (tiny_shards / index).read_bytes()
    assert server.requests[index] == 3


@pytest.mark.parametrize(
    ("misdeed", "words", "requests"),
    [
        ("404", "answers 404", 1),
        ("flip", "sha256", 4),
        ("more", "more than", 4),
    ],
)
def test_what_does_not_pass_is_damage(
    server: FaultyServer, cache: ShardCache, misdeed: str, words: str, requests: int
) -> None:
    server.misdeeds = {"shard-000001.tar": [misdeed] * 9}
    dataset = ShardDataset(server.url, cache=cache)
    for _ in range(2):  # the second time without asking the server
        with pytest.raises(DataError, match=words):
            dataset.shard(1)
    assert server.requests["shard-000001.tar"] == requests
    assert not list(cache.folder.glob("*.partial"))
    dataset.shard(2)


@pytest.mark.parametrize(
    ("misdeed", "words"),
    [
        ("403", "answers 403"),
        ("503", r"answers 503 .*tried \d+ times in [0-9.]+ s"),
        ("stall", "the server sent nothing for 0.3 s"),
        ("reset", "broken off"),
        ("truncate", "broken off"),
    ],
)
def test_what_is_unreachable_is_not_damaged(
    server: FaultyServer, tiny_shards: Path, cache: ShardCache, misdeed: str, words: str
) -> None:
    server.misdeeds = {"shard-000001.tar": [misdeed] * 99}
    faults = FaultLog()
    plan = BatchPlan(server.url, seed=1, global_batch=16, window=1, on_corrupt="replace")
    dataset = ShardDataset(server.url, cache=cache)
    maker = BatchMaker(plan, dataset, faults)
    out = new_batch(maker.decoders, 16)
    starts = range(0, maker.order.size // 16 * 16, 16)
    start = next(start for start in starts if any(one.shard == 1 for one in maker.locations(start)))
    with pytest.raises(UnreachableError, match=words):
        maker.make(start, out)
    assert (faults.replaced, faults.quarantined) == (0, [])
    assert not list(cache.folder.glob("*.partial"))
    server.misdeeds = {}
    maker.make(start, out)  # it is asked again, and no other sample stands in for any
    expected = ShardDataset(tiny_shards).read(maker.locations(start))
    np.testing.assert_array_equal(out["image"], expected["image"])
    assert faults.replaced == 0


def test_an_outage_is_waited_out(server: FaultyServer, cache: ShardCache) -> None:
    server.misdeeds = {"shard-000001.tar": ["503", "reset"] * 10}  # more often than what comes wrong is fetched
    cache.retry = replace(QUICK, patience_s=60, longest_wait_s=0.02)
    ShardDataset(server.url, cache=cache).shard(1)
    assert cache.faults.retries == 20


def test_pauses_are_random_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("data_pipelines.faults.FaultLog.wait", lambda _, seconds: waits.append(seconds))

    def fail() -> None:
        raise WrongContentError("wrong")

    with pytest.raises(DataError, match="tried 40 times"):
        with_retries(fail, "x", RetryPolicy(attempts=40), FaultLog())
    longest = [min(0.5 * 2**n, 30.0) for n in range(39)]
    assert all(most / 2 <= wait <= most for wait, most in zip(waits, longest, strict=True))
    assert len(set(waits)) == len(waits)


def test_a_server_that_is_not_there_is_said(cache: ShardCache) -> None:
    with pytest.raises(
        UnreachableError, match=r"http://127.0.0.1:9/manifest.json: broken off .*tried \d+ times in [0-9.]+ s"
    ):
        ShardDataset("http://127.0.0.1:9", cache=cache)


def test_a_manifest_from_elsewhere_cannot_run_commands(
    server: FaultyServer, tiny_shards: Path, cache: ShardCache
) -> None:
    manifest = Manifest.load(tiny_shards)
    shards = (elsewhere(manifest.shards[0], "pipe:touch /tmp/owned"), *manifest.shards[1:])
    replaced(manifest, shards).save(tiny_shards)
    with pytest.raises(DataError, match="would read this machine's files or run a command"):
        ShardDataset(server.url, cache=cache)
    with pytest.raises(DataError, match="only shards may be pipes"):
        ShardDataset("pipe:cat manifest.json", cache=cache)


def elsewhere(shard, url: str):
    return type(shard)(**{**vars(shard), "url": url})


def replaced(manifest: Manifest, shards) -> Manifest:
    entries = {name: value for name, value in vars(manifest).items() if name != "digest"}
    return Manifest(**{**entries, "shards": tuple(shards)})


def test_shards_behind_pipes_and_urls(
    server: FaultyServer, tiny_shards: Path, cache: ShardCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TRUSTED, str(tmp_path / "local"))
    expected = everything(ShardDataset(tiny_shards))
    local = tmp_path / "local"
    local.mkdir()
    for path in tiny_shards.glob("*.index.npy"):
        shutil.copy(path, local)
    manifest = Manifest.load(tiny_shards)
    places = ["pipe:cat {}", "http", "file"]
    urls = {"pipe:cat {}": f"pipe:cat {tiny_shards}/", "http": f"{server.url}/", "file": f"{tiny_shards}/"}
    shards = [elsewhere(s, urls[places[n % 3]] + s.url) for n, s in enumerate(manifest.shards)]
    replaced(manifest, shards).save(local)
    np.testing.assert_array_equal(everything(ShardDataset(local, cache=cache)), expected)
    assert len(list(cache.folder.glob("*.tar"))) == 5  # of seven shards, two lie on this machine


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("exit 3", "exit code 3"),
        ("head -c 700 {}", "700 of"),
        ("cat {}; sleep 60", "stalled"),
        ("cat {}; echo", "more"),
    ],
)
def test_a_pipe_that_fails_is_damage(tiny_shards: Path, cache: ShardCache, command: str, words: str) -> None:
    shard = Manifest.load(tiny_shards).shards[0]
    with pytest.raises(DataError, match=f"{words}.*tried [0-9]+ times"):
        cache.open(f"pipe:{command.format(tiny_shards / shard.url)}", shard.bytes, shard.sha256)


def fetch(cache: ShardCache, dataset: Path, shard: Shard) -> None:
    cache.open(f"pipe:cat {dataset / shard.url}", shard.bytes, shard.sha256).close()


def test_the_cache_keeps_to_its_size_and_the_latest(tiny_shards: Path, tmp_path: Path) -> None:
    manifest = Manifest.load(tiny_shards)
    size = max(shard.bytes for shard in manifest.shards)
    cache = ShardCache(tmp_path / "cache", 3 * size, retry=QUICK)
    for shard in manifest.shards:
        fetch(cache, tiny_shards, shard)
        held = sum(path.stat().st_size for path in cache.folder.glob("*.tar"))
        assert held <= cache.max_bytes
        assert (cache.folder / f"{shard.sha256}.tar").is_file()
    assert len(list(cache.folder.glob("*.tar"))) == 3


def test_what_is_being_read_is_never_removed(tiny_shards: Path, tmp_path: Path) -> None:
    manifest = Manifest.load(tiny_shards)
    first, second, third = manifest.shards[:3]
    cache = ShardCache(tmp_path / "cache", first.bytes + second.bytes, retry=QUICK)

    def opened(shard):
        return cache.open(f"pipe:cat {tiny_shards / shard.url}", shard.bytes, shard.sha256)

    with opened(first), opened(second), pytest.raises(DataError, match="all of its files are in use"):
        opened(third)
    opened(third).close()
    assert (cache.folder / f"{third.sha256}.tar").is_file()


def test_processes_share_one_fetch(tiny_shards: Path, tmp_path: Path) -> None:
    shard = Manifest.load(tiny_shards).shards[0]
    log = tmp_path / "fetched"
    code = (
        "import sys; from pathlib import Path; from data_pipelines.shard_cache import ShardCache\n"
        f"cache = ShardCache(Path({str(tmp_path / 'cache')!r}), 10**6)\n"
        f"url = 'pipe:echo once >> {log}; sleep 0.3; cat {tiny_shards / shard.url}'\n"
        f"assert len(cache.open(url, {shard.bytes}, {shard.sha256!r}).read()) == {shard.bytes}\n"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert log.read_text() == "once\n"


def test_who_waits_for_a_fetch_does_not_wait_for_what_is_read_afterwards(tiny_shards: Path, cache: ShardCache) -> None:
    shard = Manifest.load(tiny_shards).shards[0]
    cache.folder.mkdir(parents=True)
    partial = cache.folder / f"{shard.sha256}.partial"
    with ThreadPoolExecutor(1) as another, partial.open("wb") as fetched:
        fcntl.flock(fetched, fcntl.LOCK_EX)
        waits = another.submit(fetch, cache, tiny_shards, shard)
        time.sleep(0.2)  # it has opened the file
        fetched.write((tiny_shards / shard.url).read_bytes())
        fetched.flush()
        partial.rename(partial.with_suffix(".tar"))
        fcntl.flock(fetched, fcntl.LOCK_SH)  # without a moment in which nobody holds it
        waits.result(timeout=20)
    assert not partial.exists()


def test_a_fetch_that_was_killed_leaves_nothing_in_the_way(tiny_shards: Path, cache: ShardCache) -> None:
    shard = Manifest.load(tiny_shards).shards[0]
    cache.folder.mkdir()
    (cache.folder / f"{shard.sha256}.partial").write_bytes(b"half of it")
    (cache.folder / ("0" * 64 + ".partial")).write_bytes(bytes(cache.max_bytes))  # of another shard: room for ours
    with (
        cache.open(f"pipe:cat {tiny_shards / shard.url}", shard.bytes, shard.sha256) as file,
        tarfile.open(fileobj=file) as tar,
    ):
        assert len(tar.getnames()) == 16
    assert [path.name for path in cache.folder.iterdir() if path.suffix != ".lock"] == [f"{shard.sha256}.tar"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(folder)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_dataset_closes_shards_where_the_cache_has_no_room(
    server: FaultyServer, tiny_shards: Path, tmp_path: Path
) -> None:
    size = max(shard.bytes for shard in Manifest.load(tiny_shards).shards)
    dataset = ShardDataset(server.url, cache=ShardCache(tmp_path / "cache", 2 * size, retry=QUICK), open_shards=32)
    other = ShardDataset(server.url, cache=ShardCache(tmp_path / "cache", 2 * size, retry=QUICK))
    with other.open_tar(0):
        found = np.concatenate([dataset.read([location])["image"] for location in dataset.locations()])
    assert (found == everything(ShardDataset(tiny_shards))).all()
    assert sum(file.stat().st_size for file in (tmp_path / "cache").glob("*.tar")) <= 2 * size


def test_a_full_disk_makes_the_cache_smaller(small_disk: Path, tiny_shards: Path) -> None:
    cache = ShardCache(small_disk, 10**9, retry=QUICK)
    manifest = Manifest.load(tiny_shards)
    for shard in manifest.shards * 2:
        fetch(cache, tiny_shards, shard)
    assert (small_disk / f"{manifest.shards[-1].sha256}.tar").is_file()


def test_a_disk_that_others_filled_is_damage(small_disk: Path, tiny_shards: Path) -> None:
    with (small_disk / "of-others").open("wb") as file:
        file.write(bytes(60 * 1024))
    with pytest.raises(DataError, match="the disk or the cache's .* full"):
        fetch(ShardCache(small_disk, 10**9, retry=QUICK), tiny_shards, Manifest.load(tiny_shards).shards[0])


def test_a_manifest_from_elsewhere_names_no_other_server(
    server: FaultyServer, tiny_shards: Path, cache: ShardCache
) -> None:
    """A stranger's set whose shard is on a machine that only the reader can reach."""
    manifest = Manifest.load(tiny_shards)
    inside = f"http://localhost:{server.server_port}/admin/restart"
    replaced(manifest, (elsewhere(manifest.shards[0], inside), *manifest.shards[1:])).save(tiny_shards)
    with pytest.raises(DataError, match="is on another server, to which this machine would send requests"):
        ShardDataset(server.url, cache=cache).shard(0)
    assert not server.requests["admin/restart"]


def test_small_files_from_elsewhere_are_small(server: FaultyServer, tiny_shards: Path, cache: ShardCache) -> None:
    index = tiny_shards / Manifest.load(tiny_shards).shards[0].index
    index.write_bytes(index.read_bytes() + bytes(2**20))
    with pytest.raises(DataError, match="bytes were received"):
        ShardDataset(server.url, cache=cache).shard(0)
    assert server.requests[index.name] == 1


class Bucket(MemoryFileSystem):
    """A store in memory, in the place of a plugin's, which nothing here could serve."""

    protocol = "gs"
    store: ClassVar[dict[str, Any]] = {}
    refusal: ClassVar[type[Exception] | None] = None

    def _open(self, *arguments: Any, **options: Any) -> Any:
        if Bucket.refusal is not None:
            raise Bucket.refusal("no")
        return super()._open(*arguments, **options)


def test_other_stores_are_read_by_fsspec(monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec.register_implementation("gs", Bucket, clobber=True)
    url, retry = "gs://bucket/shard.tar", RetryPolicy(attempts=1, patience_s=0.0)
    fsspec.filesystem("gs").pipe_file(url, b"0123456789")
    assert is_remote(url)
    assert b"".join(chunks_of(url, retry)) == b"0123456789"
    assert b"".join(chunks_of(url, retry, 4)) == b"456789"
    with pytest.raises(FinalFetchError, match="gs://bucket/none: no such object"):
        list(chunks_of("gs://bucket/none", retry))
    for refusal, raised in ((PermissionError, NotAllowedError), (TimeoutError, FetchError)):
        monkeypatch.setattr(Bucket, "refusal", refusal)
        with pytest.raises(raised):
            list(chunks_of(url, retry))


def test_a_store_without_its_package_names_it() -> None:
    with pytest.raises(FinalFetchError, match=r"needs the package adlfs \(pip install adlfs\)"):
        list(chunks_of("az://bucket/shard.tar", RetryPolicy()))
