"""Random bits as one operator are those of the plain operators: on GPUs a kernel, which an interpreter runs here."""

import importlib
import sys
import zlib
from collections.abc import Callable, Iterator
from types import ModuleType

import pytest
import torch

from bigtrain.core.on_gpus import as_on_gpus
from bigtrain.core.philox import fused, on_host, plain
from bigtrain.core.rng import Draws
from tests.fake_cuda import Operators

CASES = [(1, 1), (3, 4), (5, 7), (2, 1030), (0, 4), (4, 0)]
"""Samples, and numbers a sample."""


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., torch.Tensor]]:
    """The kernel for GPUs, interpreted on the CPU."""
    triton = pytest.importorskip("triton")
    monkeypatch.setattr(triton.knobs.runtime, "interpret", True)
    monkeypatch.delitem(sys.modules, "bigtrain.core.philox_kernel", raising=False)
    module: ModuleType = importlib.import_module("bigtrain.core.philox_kernel")
    yield module.random_bits
    del sys.modules["bigtrain.core.philox_kernel"]


def positions(samples: int) -> torch.Tensor:
    return torch.tensor([0, 1, 2**31, 2**32 + 5, 2**62 + 2**33 + 7])[:samples]


@pytest.mark.parametrize(("samples", "count"), CASES)
@pytest.mark.parametrize(("seed", "stream"), [(0, 0), (2**32 - 1, 2**32 - 1), (7, 2**31), (2**31, 7)])
def test_the_kernels_bits_are_the_plain_ones(
    kernel: Callable[..., torch.Tensor], samples: int, count: int, seed: int, stream: int
) -> None:
    index = positions(samples)
    assert torch.equal(kernel(index, seed, stream, count), plain(index, seed, stream, count))


@pytest.mark.parametrize(("samples", "count"), CASES)
@pytest.mark.parametrize(("seed", "stream"), [(0, 0), (2**32 - 1, 2**32 - 1), (7, 2**31), (2**31, 7)])
def test_numpys_bits_are_the_plain_ones(samples: int, count: int, seed: int, stream: int) -> None:
    index = positions(samples)
    found, expected = on_host(index, seed, stream, count), plain(index, seed, stream, count)
    assert found.dtype == expected.dtype and torch.equal(found, expected)


@pytest.mark.parametrize(("samples", "count"), CASES)
def test_the_one_operator_computes_the_plain_ones_where_there_is_no_kernel(samples: int, count: int) -> None:
    index = positions(samples)
    assert torch.equal(fused(index, 3, 4, count), plain(index, 3, 4, count))


def test_draws_are_one_operator_where_a_gpu_computes_them() -> None:
    draws = Draws(3, torch.arange(4), "z")
    with Operators() as plainly:
        expected = plain(draws.index, 3, zlib.crc32(b"z"), 9)
    with as_on_gpus(), Operators() as at_once:
        found = draws.bits(9)
    assert torch.equal(found, expected)
    assert len(plainly.names) > 120 and at_once.names == ["bigtrain.random_bits"]
    with Operators() as on_the_host:
        assert torch.equal(draws.bits(9), expected)
    assert len(on_the_host.names) < 5
