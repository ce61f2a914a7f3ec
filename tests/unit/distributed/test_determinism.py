"""What a GPU is told of the algorithms that it may use."""

import os
from collections.abc import Iterator

import pytest
import torch

from bigtrain.distributed.determinism import choose_algorithms

GPU = torch.device("cuda", 0)


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    choose_algorithms(GPU, deterministic=False)
    torch.backends.cudnn.benchmark = False
    torch.utils.deterministic.fill_uninitialized_memory = True


def settings() -> tuple[bool, bool, bool]:
    cudnn = torch.backends.cudnn
    return cudnn.benchmark, cudnn.deterministic, torch.are_deterministic_algorithms_enabled()


def test_a_gpu_tries_out_its_convolutions_unless_bits_must_repeat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    choose_algorithms(GPU, deterministic=False)
    assert settings() == (True, False, False) and "CUBLAS_WORKSPACE_CONFIG" not in os.environ
    choose_algorithms(GPU, deterministic=True)
    assert settings() == (False, True, True) and os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


def test_a_cpu_is_left_alone() -> None:
    before = settings()
    choose_algorithms(torch.device("cpu"), deterministic=True)
    assert settings() == before
