"""Batch normalisation over the ranks, and a gradient penalty through it, are those of the whole batch."""

from pathlib import Path

import torch
import torch.distributed as dist

from bigtrain.distributed.collectives import mean_over_ranks
from bigtrain.distributed.statistics import synchronise_statistics
from bigtrain.models import ImageSpec
from bigtrain.models.pix2pix_unet import Pix2PixUNetConfig
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


def trained(rows: slice, world_size: int) -> dict[str, torch.Tensor]:
    """Return a U-Net's gradients and running statistics after a step on this process' pairs."""
    torch.manual_seed(0)
    image = ImageSpec(16, 2)
    network = Pix2PixUNetConfig(width=4).build(image, image).double()
    synchronise_statistics(network, world_size)
    pairs = torch.randn(2, 4, 2, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    source, target = pairs[:, rows]
    (network(source) - target).square().mean().backward()
    gradients = {name: value.grad for name, value in network.named_parameters() if value.grad is not None}
    if world_size > 1:
        gradients = {name: mean_over_ranks(value) for name, value in gradients.items()}
    return {**gradients, **dict(network.named_buffers())}


def trained_on_one_of_two() -> dict[str, torch.Tensor]:
    return trained(slice(2 * dist.get_rank(), 2 * dist.get_rank() + 2), 2)


def test_a_translator_over_two_ranks(tmp_path: Path, alone: None) -> None:
    expected = trained(slice(None), 1)
    for ours in on_ranks(2, trained_on_one_of_two, tmp_path):
        assert ours.keys() == expected.keys()
        for name, value in expected.items():
            # A network computes its images in float32 at the end; the running variance is unbiased: of 32 pixels at the
            # bottom of the U-Net, its bias were 3 %.
            torch.testing.assert_close(ours[name], value, rtol=1e-5, atol=1e-8, msg=name)
