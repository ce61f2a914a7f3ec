"""Jobs that share a cache of statistics: several processes write, read, are killed and damage it at once."""

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from bigtrain.core.cache import cache_folder
from bigtrain.evaluation.cache import keep, look_up
from data_pipelines.files import atomic_write

KEYS = [{"data": f"digest {number}", "samples": 100} for number in range(3)]
SECONDS = 4.0


def expected(number: int) -> dict[str, torch.Tensor]:
    return {"covariance": torch.full((400, 400), float(number)).double(), "count": torch.tensor(number)}


def _job(folder: Path, seed: int, results: "multiprocessing.Queue[tuple[int, int, list[str]]]") -> None:
    """Be a job: look entries up, compute what is missing, check what is there."""
    os.environ["BIGTRAIN_CACHE"] = str(folder)
    torch.set_num_threads(1)
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    chance, end = random.Random(seed), time.monotonic() + SECONDS
    found = missed = 0
    wrong = []
    while time.monotonic() < end:
        number = chance.randrange(len(KEYS))
        tensors = look_up(KEYS[number])
        if tensors is None:
            missed += 1
            keep(KEYS[number], expected(number))
            continue
        found += 1
        if any(not torch.equal(tensors[name], value) for name, value in expected(number).items()):
            wrong.append(f"entry {number}")
        if chance.random() < 0.3:
            keep(KEYS[number], expected(number))
    results.put((found, missed, wrong))
    dist.destroy_process_group()


def _killed(folder: Path) -> None:
    """Be a job that is killed while it writes."""
    (folder / "statistics").mkdir(parents=True, exist_ok=True)
    with atomic_write(folder / "statistics" / "entry.safetensors") as file:
        file.write(b"half of")
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)


def _start(context: multiprocessing.context.SpawnContext, target: Callable[..., None], *arguments: object):
    process = context.Process(target=target, args=arguments)
    process.start()
    return process


def test_jobs_that_share_a_cache_never_read_anything_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIGTRAIN_CACHE", str(tmp_path))
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    jobs = [_start(context, _job, tmp_path, seed, results) for seed in range(4)]
    killed = _start(context, _killed, tmp_path)
    killed.join(60)
    assert killed.exitcode == -signal.SIGKILL
    assert not (tmp_path / "statistics" / "entry.safetensors").exists()
    chance = random.Random(0)
    while any(job.is_alive() for job in jobs):
        entries = sorted(cache_folder().glob("statistics/*.safetensors"))
        if entries:  # a disk that loses a bit, or the end of a file
            entry = chance.choice(entries)
            data = bytearray(entry.read_bytes())
            data[chance.randrange(len(data))] ^= 0x10
            damaged = entry.with_suffix(".damaged")
            damaged.write_bytes(data if chance.random() < 0.5 else data[: len(data) // 2])
            damaged.replace(entry)
        time.sleep(0.1)
    told = [results.get(timeout=60) for _ in jobs]
    for job in jobs:
        job.join(60)
        assert job.exitcode == 0
    assert [wrong for _, _, wrong in told] == [[]] * len(jobs)
    assert sum(found for found, _, _ in told) > 50
    assert sum(missed for _, missed, _ in told) > 3  # all of them met missing or damaged entries


def test_a_cache_that_cannot_be_written_is_no_reason_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alone: None, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("BIGTRAIN_CACHE", str(tmp_path / "file"))
    keep(KEYS[0], expected(0))
    assert look_up(KEYS[0]) is None
