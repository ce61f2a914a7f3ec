"""Batch normalisation over the ranks, and a gradient penalty through it, are those of the whole batch."""

from pathlib import Path

import torch
import torch.distributed as dist

from bigtrain.distributed.collectives import mean_over_ranks
from bigtrain.ops.batch_norm import OverRanks, batch_norm
from tests.distributed.ranks import on_ranks


def penalty_gradient(rows: slice, over_ranks: OverRanks | None) -> torch.Tensor:
    """Return the gradient, by this process' samples, of a penalty on the gradient of what all ranks compute."""
    x = torch.randn(8, 3, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x = x[rows].requires_grad_()
    mean, var = torch.zeros(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)
    y = batch_norm(x, mean, var, training=True, over_ranks=over_ranks)
    (gradient,) = torch.autograd.grad(y.pow(3).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(gradient.square().sum(), x)
    return second


def on_one_of_two() -> torch.Tensor:
    return penalty_gradient(slice(4 * dist.get_rank(), 4 * dist.get_rank() + 4), mean_over_ranks)


def test_a_gradient_penalty_over_two_ranks(tmp_path: Path, alone: None) -> None:
    expected = penalty_gradient(slice(None), None)
    torch.testing.assert_close(torch.cat(on_ranks(2, on_one_of_two, tmp_path)), expected, rtol=1e-9, atol=1e-9)
