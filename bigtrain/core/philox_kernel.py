"""Philox 4x32-10 as one Triton kernel; imported where there is a GPU, for Triton comes with PyTorch's CUDA builds."""

import torch
import triton
import triton.language as tl
from torch import Tensor

_BLOCK = 256


@triton.jit  # type: ignore[untyped-decorator]
def _kernel(index, out, seed, stream, blocks, count, total, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]  # noqa: N803
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < total
    sample, block = at // blocks, at % blocks
    position = tl.load(index + sample, mask=inside, other=0).to(tl.uint64, bitcast=True)
    k0, k1 = tl.cast(seed, tl.uint64).to(tl.uint32), tl.cast(stream, tl.uint64).to(tl.uint32)
    w0 = block.to(tl.uint32)
    w1 = w0 * 0
    w2, w3 = (position & 0xFFFFFFFF).to(tl.uint32), (position >> 32).to(tl.uint32)
    for _ in tl.static_range(10):
        low0, high0 = w0 * 0xD2511F53, tl.umulhi(w0, w0 * 0 + 0xD2511F53)
        low1, high1 = w2 * 0xCD9E8D57, tl.umulhi(w2, w2 * 0 + 0xCD9E8D57)
        w0, w1, w2, w3 = high1 ^ w1 ^ k0, low1, high0 ^ w3 ^ k1, low0
        k0 = k0 + 0x9E3779B9
        k1 = k1 + 0xBB67AE85
    first = 4 * block
    place = out + sample * count + first
    tl.store(place, w0.to(tl.int64), mask=inside & (first < count))
    tl.store(place + 1, w1.to(tl.int64), mask=inside & (first + 1 < count))
    tl.store(place + 2, w2.to(tl.int64), mask=inside & (first + 2 < count))
    tl.store(place + 3, w3.to(tl.int64), mask=inside & (first + 3 < count))


def random_bits(index: Tensor, seed: int, stream: int, count: int) -> Tensor:
    """Return `count` uniform 32-bit integers a sample: int64, shape [N, count]; see `bigtrain.core.philox`.

    Args:
        index: each sample's position, int64, shape [N].
        seed: the lower half of the key.
        stream: the upper half of the key.
        count: numbers a sample.
    """
    out = torch.empty(len(index), count, dtype=torch.int64, device=index.device)
    blocks = -(-count // 4)
    total = len(index) * blocks
    if total:
        _kernel[(triton.cdiv(total, _BLOCK),)](
            index.contiguous(), out, seed, stream, blocks, count, total, BLOCK=_BLOCK
        )
    return out
