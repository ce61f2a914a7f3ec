"""Batches: the same from any loader, ranks and place; what is damaged is replaced, the same everywhere."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipelines.batches import BatchPlan, CachePlan
from data_pipelines.errors import DataError
from data_pipelines.read import ShardDataset
from data_pipelines.sampling import Shares
from data_pipelines.stream import BatchStream, HostBatch, Loader
from data_pipelines.write import ShardOptions, write_shards
from tests.conftest import tiny_source
from tests.unit.data_pipelines.faulty_server import serve

SHARES = [None, Shares({}), Shares({"class 0": 3.0, "class 2": 0.0})]


def plan(folder: Path | str, **changes) -> BatchPlan:
    return BatchPlan(str(folder), **{"seed": 5, "global_batch": 12, "window": 2, **changes})


def take(stream: BatchStream, count: int, position: int = 0) -> list[HostBatch]:
    """Take batches, copied out of the memory that they share with readers."""
    stream.seek(position)
    taken = []
    for _ in range(count):
        batch = next(stream)
        taken.append(HostBatch({name: array.copy() for name, array in batch.fields.items()}, batch.positions))
    return taken


def assert_same(one: list[HostBatch], other: list[HostBatch]) -> None:
    for batch, expected in zip(one, other, strict=True):
        assert batch.fields.keys() == expected.fields.keys()
        for name, array in expected.fields.items():
            np.testing.assert_array_equal(batch.fields[name], array)
        np.testing.assert_array_equal(batch.positions, expected.positions)


@given(
    world=st.sampled_from([1, 2, 3, 4, 6]),
    workers=st.integers(1, 3),
    start=st.integers(0, 9),
    window=st.integers(1, 8),
    shares=st.sampled_from(SHARES),
    max_images=st.sampled_from([None, 1, 17, 50]),
    pieces=st.sampled_from([1, 2]),
)
@settings(deadline=None, max_examples=30)
def test_any_number_of_ranks_and_workers_sees_the_same_samples_in_each_piece(
    tmp_path_factory,
    world: int,
    workers: int,
    start: int,
    window: int,
    shares: Shares | None,
    max_images: int | None,
    pieces: int,
) -> None:
    folder = tmp_path_factory.getbasetemp() / "tiny-stream"
    if not folder.exists():
        write_shards(tiny_source(), folder, ShardOptions(shard_samples=8))
    options = {"window": window, "shares": shares, "max_images": max_images}
    if max_images == 1 and shares == SHARES[2]:
        options["shares"] = None  # the one image may be of a class that is left out
    whole = BatchStream(plan(folder, **options))
    pieces = pieces if 12 // world % pieces == 0 else 1
    ranks = [
        BatchStream(plan(folder, rank=rank, world_size=world, pieces=pieces, **options), workers=workers)
        for rank in range(world)
    ]
    expected = take(whole, 7, start * 12)  # 84 samples cross the end of an epoch of 50
    parts = [take(rank, 7, start * 12) for rank in ranks]
    for number, batch in enumerate(expected):
        for name, array in {**batch.fields, "positions": batch.positions}.items():
            shares = [{**part[number].fields, "positions": part[number].positions}[name] for part in parts]
            by_rank = [np.split(share, pieces) for share in shares]
            joined = np.concatenate([cut[piece] for piece in range(pieces) for cut in by_rank])
            np.testing.assert_array_equal(joined, array)
    for stream in (whole, *ranks):
        stream.close()


@pytest.mark.parametrize("workers", [1, 2])
def test_processes_make_the_batches_of_threads(tiny_shards: Path, workers: int) -> None:
    threads, processes = (
        BatchStream(plan(tiny_shards), loader=loader, workers=workers) for loader in ("threads", "processes")
    )
    assert_same(take(processes, 9, 24), take(threads, 9, 24))
    assert_same(take(processes, 2, 120), take(threads, 2, 120))  # a seek forgets what was read ahead
    for stream in (threads, processes):
        stream.close()


def test_no_signal_is_for_a_reader_process_from_its_first_moment_on(tiny_shards: Path) -> None:
    stream = BatchStream(plan(tiny_shards), loader="processes")
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        stream._readers._processes[0].send_signal(number)
    next(stream)
    stream.close()


def test_a_reader_process_that_dies_is_an_error(tiny_shards: Path) -> None:
    stream = BatchStream(plan(tiny_shards), loader="processes")
    next(stream)
    os.kill(stream._readers._processes[0].pid, signal.SIGKILL)
    with pytest.raises(DataError, match="a process that reads data died .exit code -9."):
        for _ in range(5):
            next(stream)
    stream.close()


def test_reader_processes_end_with_their_parent(tiny_shards: Path) -> None:
    code = (
        "import os; from data_pipelines.batches import BatchPlan; from data_pipelines.stream import BatchStream\n"
        f"stream = BatchStream(BatchPlan({str(tiny_shards)!r}, seed=0, global_batch=2), loader='processes')\n"
        "next(stream); print(stream._readers._processes[0].pid, flush=True); os.kill(os.getpid(), 9)\n"
    )
    pid = int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout)
    deadline = time.monotonic() + 20
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(pid)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def damage_sample(folder: Path) -> None:
    row = np.load(folder / "shard-000002.index.npy")[3]
    with (folder / "shard-000002.tar").open("r+b") as file:
        file.seek(int(row["offset"]) + 20)
        file.write(b"\xff\x00\xff")


def remove_shard(folder: Path) -> None:
    (folder / "shard-000002.tar").unlink()


def cut_shard(folder: Path) -> None:
    with (folder / "shard-000002.tar").open("r+b") as file:
        file.truncate(3000)


def remove_index(folder: Path) -> None:
    (folder / "shard-000002.index.npy").unlink()


DAMAGES = [(damage_sample, 1), (remove_shard, 8), (cut_shard, 8), (remove_index, 8)]


@pytest.mark.parametrize(("damage", "samples"), DAMAGES)
@pytest.mark.parametrize("loader", ["threads", "processes"])
def test_damage_is_replaced_the_same_on_any_ranks_and_after_a_resume(
    tiny_shards: Path, tmp_path: Path, damage: Callable[[Path], None], samples: int, loader: Loader
) -> None:
    sound = take(BatchStream(plan(tiny_shards, global_batch=10)), 10)
    damage(tiny_shards)
    replace = plan(tiny_shards, global_batch=10, on_corrupt="replace")
    listed = tmp_path / "quarantine.jsonl"
    stream = BatchStream(replace, loader=loader, quarantine=listed)
    whole = take(stream, 10)  # two epochs
    stream.close()
    changed = sum(
        int((one.fields["image"] != other.fields["image"]).any((1, 2, 3)).sum())
        for one, other in zip(whole, sound, strict=True)
    )
    assert changed == 2 * samples
    assert stream.faults.replaced >= 2 * samples  # and those of batches that were read ahead
    assert {fault["file"] for fault in map(json.loads, listed.read_text().splitlines())} == {"shard-000002.tar"}
    assert len(listed.read_text().splitlines()) == 1
    resumed = BatchStream(replace)
    assert_same(take(resumed, 4, 60), whole[6:])
    halves = [
        take(BatchStream(plan(tiny_shards, global_batch=10, on_corrupt="replace", rank=rank, world_size=2)), 10)
        for rank in range(2)
    ]
    for number, batch in enumerate(whole):
        np.testing.assert_array_equal(
            np.concatenate([half[number].fields["image"] for half in halves]), batch.fields["image"]
        )


@pytest.mark.parametrize(("damage", "samples"), DAMAGES)
@pytest.mark.parametrize("loader", ["threads", "processes"])
def test_a_plan_to_fail_fails(tiny_shards: Path, damage: Callable[[Path], None], samples: int, loader: Loader) -> None:
    damage(tiny_shards)
    stream = BatchStream(plan(tiny_shards), loader=loader)
    with pytest.raises(DataError, match="shard-000002"):
        take(stream, 5)
    stream.close()


def test_by_class_a_lost_index_is_met_when_its_samples_come(tiny_shards: Path) -> None:
    remove_index(tiny_shards)
    balanced = plan(tiny_shards, global_batch=10, shares=Shares({}), on_corrupt="replace")
    stream = BatchStream(balanced)
    batches = take(stream, 5)
    assert [len(batch.fields["class"]) for batch in batches] == [10] * 5
    assert stream.faults.replaced >= 8
    assert_same(take(BatchStream(balanced), 5), batches)


def test_nothing_can_replace_what_is_all_damaged(tiny_shards: Path) -> None:
    for path in tiny_shards.glob("*.tar"):
        path.unlink()
    with pytest.raises(DataError, match="32 substitutes in a row are damaged, after: .*shard is missing"):
        take(BatchStream(plan(tiny_shards, on_corrupt="replace")), 1)


@pytest.mark.parametrize("loader", ["threads", "processes"])
def test_shards_from_a_server_are_fetched_ahead_and_a_lost_one_is_replaced(
    tiny_shards: Path, tmp_path: Path, loader: Loader
) -> None:
    local = take(BatchStream(plan(tiny_shards, global_batch=10)), 5)
    with serve(tiny_shards) as server:
        server.misdeeds = {"shard-000002.tar": ["404"] * 99}
        remote = plan(
            server.url,
            global_batch=10,
            on_corrupt="replace",
            cache=CachePlan(str(tmp_path / "cache"), 10**6),
        )
        stream = BatchStream(remote, loader=loader)
        batches = take(stream, 5)
        stream.close()
        assert max(count for name, count in server.requests.items() if name.endswith("1.tar")) == 1
    assert stream.faults.replaced >= 8
    changed = sum(
        int((one.fields["image"] != other.fields["image"]).any((1, 2, 3)).sum())
        for one, other in zip(batches, local, strict=True)
    )
    assert changed == 8


def test_a_stream_refuses_uneven_ranks_and_positions(tiny_shards: Path) -> None:
    with pytest.raises(ValueError, match="does not divide over 5 ranks"):
        plan(tiny_shards, world_size=5)
    with pytest.raises(ValueError, match="not a multiple"):
        BatchStream(plan(tiny_shards)).seek(7)


def test_few_shards_stay_open(tmp_path: Path) -> None:
    write_shards(tiny_source(200), tmp_path / "set", ShardOptions(shard_samples=2))
    dataset = ShardDataset(tmp_path / "set", open_shards=6)
    dataset.read(list(dataset.locations()))
    assert len(dataset._open) == 6
