"""Philox 4x32-10 (Salmon et al. 2011): counters to random bits, in plain operators and in two faster ways.

The plain operators are 250 of some microseconds each, which a GPU executes faster than its host launches them: there a
single operator computes the same integers. On CPUs NumPy does, whose calls cost a fraction of PyTorch's.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from torch import Tensor

from bigtrain.core.on_gpus import on_gpu

_MASK = 0xFFFFFFFF
_ROUND_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_KEY_INCREMENTS = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10
_SHARED, _THREADS = 1 << 14, 4
"""Numbers a sample, and threads, from which on PyTorch's operators are not slower than NumPy's."""


def random_bits(index: Tensor, seed: int, stream: int, count: int) -> Tensor:
    """Return `count` uniform 32-bit integers a sample: int64, shape [N, count].

    Args:
        index: each sample's position, int64, shape [N]: the upper half of the counter.
        seed: the lower half of the key.
        stream: the upper half of the key.
        count: numbers a sample; the lower half of the counter numbers them in fours.
    """
    if torch.compiler.is_compiling():  # a compiler fuses the plain ones itself
        return plain(index, seed, stream, count)
    if on_gpu(index):
        bits: Tensor = fused(index, seed, stream, count)
        return bits
    # Not for tensors without data, and not for what PyTorch would share among many threads.
    if index.device.type == "cpu" and type(index) is Tensor and (count < _SHARED or torch.get_num_threads() < _THREADS):
        return on_host(index, seed, stream, count)
    return plain(index, seed, stream, count)


def plain(index: Tensor, seed: int, stream: int, count: int) -> Tensor:
    """Compute `random_bits` by PyTorch's operators on integers."""
    blocks, samples = -(-count // 4), index.shape[0]  # len() would fix it in an exported program
    block = torch.arange(blocks, device=index.device).repeat(samples, 1)
    position = index[:, None].expand(-1, blocks)
    counter = (block, torch.zeros_like(block), position & _MASK, (position >> 32) & _MASK)
    words = philox_4x32(counter, (seed & _MASK, stream))
    return torch.stack(words, dim=-1).reshape(samples, 4 * blocks)[:, :count]


def on_host(index: Tensor, seed: int, stream: int, count: int) -> Tensor:
    """Compute `random_bits` by NumPy, for a CPU's tensors with data: two to four times as fast as the plain operators.

    Unsigned 64-bit products have no sign bits to mask off, and what is the same for all blocks or samples is computed
    once.
    """
    blocks, samples = -(-count // 4), len(index)
    position = index.numpy().view(np.uint64)[:, None]
    word, half = np.uint64(_MASK), np.uint64(32)
    by0, by1 = (np.uint64(multiplier) for multiplier in _ROUND_MULTIPLIERS)
    c0, c1 = np.arange(blocks, dtype=np.uint64)[None], np.zeros((1, 1), np.uint64)
    c2, c3 = position & word, position >> half
    k0, k1 = seed & _MASK, stream
    for _ in range(_ROUNDS):
        product0, product1 = c0 * by0, c2 * by1
        c0, c1 = (product1 >> half) ^ c1 ^ np.uint64(k0), product1 & word
        c2, c3 = (product0 >> half) ^ c3 ^ np.uint64(k1), product0 & word
        k0, k1 = (k0 + _KEY_INCREMENTS[0]) & _MASK, (k1 + _KEY_INCREMENTS[1]) & _MASK
    words = np.empty((samples, blocks, 4), np.uint64)
    for place, found in enumerate((c0, c1, c2, c3)):
        words[..., place] = found
    return torch.from_numpy(words.reshape(samples, 4 * blocks).view(np.int64)[:, :count])


@torch.library.custom_op("bigtrain::random_bits", mutates_args=())
def fused(index: Tensor, seed: int, stream: int, count: int) -> Tensor:
    """Compute `random_bits` as one operator: a kernel on GPUs, the plain operators where there is none for them."""
    kernel = _kernel() if index.is_cuda else None
    return plain(index, seed, stream, count).clone() if kernel is None else kernel(index, seed & _MASK, stream, count)


@fused.register_fake
def _(index: Tensor, seed: int, stream: int, count: int) -> Tensor:
    return index.new_empty(index.shape[0], count)


@cache
def _kernel() -> Callable[[Tensor, int, int, int], Tensor] | None:
    """Return the kernel for GPUs; None in a build of PyTorch without Triton."""
    try:
        from bigtrain.core import philox_kernel
    except ImportError:
        return None
    return philox_kernel.random_bits


def philox_4x32(
    counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[int, int], rounds: int = _ROUNDS
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Apply Philox 4x32: four int64 tensors that hold 32-bit words in, four out (Salmon et al. 2011, section 3.3)."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(rounds):
        # int64 products wrap, which keeps all 64 bits: the arithmetic shift's sign bits are masked off.
        product0, product1 = c0 * _ROUND_MULTIPLIERS[0], c2 * _ROUND_MULTIPLIERS[1]
        high0, low0 = (product0 >> 32) & _MASK, product0 & _MASK
        high1, low1 = (product1 >> 32) & _MASK, product1 & _MASK
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + _KEY_INCREMENTS[0]) & _MASK, (k1 + _KEY_INCREMENTS[1]) & _MASK
    return c0, c1, c2, c3
