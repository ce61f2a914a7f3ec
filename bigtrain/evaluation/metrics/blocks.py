"""Distances and kernels between many features, block by block and shared by the ranks.

The blocks are the same on any number of ranks, and so is every number in them: a comparison of two distances comes out
the same however many processes compute.
"""

from collections.abc import Callable, Iterator

import torch
import torch.distributed as dist
from torch import Tensor

from bigtrain.distributed.collectives import sum_over_ranks

_BLOCK = 1024
"""Rows at once: with 50,000 others, 410 MB of float64 distances."""


def my_blocks(count: int, block: int = _BLOCK) -> Iterator[slice]:
    """Iterate over this rank's blocks of `count` rows."""
    starts = range(0, count, block)
    for start in starts[dist.get_rank() :: dist.get_world_size()]:
        yield slice(start, min(start + block, count))


def row_by_row(count: int, compute: Callable[[slice], Tensor]) -> Tensor:
    """Return what `compute` returns of each block of rows, float64, shape [count], on every rank. Collective."""
    result = torch.zeros(count, dtype=torch.float64)
    for rows in my_blocks(count):
        result[rows] = compute(rows)
    return sum_over_ranks(result)


def distances(one: Tensor, other: Tensor) -> Tensor:
    """Return Euclidean distances, float64, shape [N, M], of rows [N, F] and [M, F]."""
    one, other = one.double(), other.double()
    squared = one.square().sum(1)[:, None] + other.square().sum(1)
    return squared.addmm_(one, other.t(), alpha=-2).clamp_(min=0).sqrt_()
