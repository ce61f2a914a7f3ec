"""What goes wrong in one call on kept processes is nothing to the next one."""

import os
import time
from pathlib import Path

import pytest
import torch.distributed as dist

from tests.distributed import ranks
from tests.distributed.ranks import on_ranks


def place() -> tuple[int, int, int]:
    return os.getpid(), dist.get_rank(), dist.get_world_size()


def wrong() -> None:
    if dist.get_rank() == 1:
        raise ValueError("wrong on rank 1")
    time.sleep(60)


def gone() -> None:
    if dist.get_rank() == 1:
        os._exit(7)
    time.sleep(60)


def test_processes_are_kept_but_not_after_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = on_ranks(2, place, tmp_path)
    assert [rest for _, *rest in first] == [[0, 2], [1, 2]]
    assert on_ranks(2, place, tmp_path) == first
    with pytest.raises(RuntimeError, match=r"rank 1 of 2: (.|\n)*wrong on rank 1"):
        on_ranks(2, wrong, tmp_path)
    with pytest.raises(RuntimeError, match="rank 1 of 2: the process ended with exit code 7"):
        on_ranks(2, gone, tmp_path)

    def interrupted(*_: object) -> None:
        raise TimeoutError("pytest's time limit")

    with monkeypatch.context() as patch:
        patch.setattr(ranks, "wait", interrupted)
        with pytest.raises(TimeoutError):
            on_ranks(2, place, tmp_path)
    (pid, *rest), _ = on_ranks(2, place, tmp_path)
    assert rest == [0, 2]
    assert pid not in {one for one, *_ in first}
