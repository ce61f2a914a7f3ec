"""Below p = 1 the pipe does not hide the distribution behind it (Karras et al. 2020b, section 2.2 and appendix C)."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bigtrain.augment.ada import AdaConfig, AdaPipe
from bigtrain.core.rng import Draws


def _operator(pipe: AdaPipe, p: float, samples: int = 1500) -> Tensor:
    """Measure how the pipe mixes the eight orientations of an image: shape [8, 8], columns add up to 1."""
    orientations = torch.stack(
        [torch.rot90(image, turns, (1, 2)) for image in (PICTURE, PICTURE.flip(2)) for turns in range(4)]
    )
    columns = []
    for number, image in enumerate(orientations):
        draws = Draws(number, torch.arange(samples), "orientation")
        seen = pipe(image.expand(samples, -1, -1, -1), draws, p)
        nearest = torch.cdist(seen.flatten(1), orientations.flatten(1)).argmin(1)
        columns.append(torch.bincount(nearest, minlength=8) / samples)
    return torch.stack(columns, dim=1)


PICTURE = F.interpolate(torch.tensor([[[[1.0, 0.0], [-1.0, 0.5]]]]), size=6, mode="bilinear")[0]


def test_the_distribution_can_be_recovered_below_one_and_not_at_one() -> None:
    """Flips and quarter turns mix the distributions over an image's orientations linearly; is that map invertible?"""
    pipe = AdaConfig(kind="ada", transforms="blit", multipliers={"xint": 0.0}).build()
    mixed, lost = _operator(pipe, 0.5), _operator(pipe, 1.0)
    assert torch.linalg.svdvals(mixed)[-1].item() == pytest.approx(0.5**2, abs=0.05)  # (1 - p) for each of the two
    assert torch.linalg.svdvals(lost)[1].item() < 0.06  # all orientations become one distribution, the uniform
    data = torch.tensor([0.6, 0.1, 0.0, 0.0, 0.3, 0.0, 0.0, 0.0])
    other = _operator(pipe, 0.5, 1000)
    torch.testing.assert_close(torch.linalg.solve(mixed, other @ data), data, rtol=0, atol=0.1)


def _train(p: float, steps: int = 600, batch: int = 32) -> float:
    """Let a generator of one number learn how many images are mirrored; return its share of those that are not.

    In the data it is 0.9; the generator begins at 0.1. It makes both kinds and weights them, so that what D sees of
    either can be drawn before the training.
    """
    pattern = torch.tensor([1.0, 1.0, -1.0, -1.0]).expand(1, 1, 4, 4)
    pipe = AdaConfig(kind="ada", transforms="blit", multipliers={"xint": 0.0, "rotate90": 0.0}).build()
    draws = Draws(1, torch.arange(steps * batch))
    real = torch.where(draws.of("data").uniform(1) < 0.9, 1.0, -1.0)[:, :, None, None] * pattern
    shown = [
        pipe(images.expand(steps * batch, -1, -1, -1), draws.of(stream), p).reshape(steps, batch, -1)
        for stream, images in (("real", real), ("plain", pattern), ("mirrored", -pattern))
    ]
    D = nn.Sequential(nn.Linear(16, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1))
    share = nn.Parameter(torch.tensor(-2.2))
    move_d = torch.optim.Adam(D.parameters(), lr=5e-3, betas=(0.0, 0.99))
    move_g = torch.optim.Adam([share], lr=3e-2, betas=(0.0, 0.99))
    found = []
    for real, plain, mirrored in zip(*shown, strict=True):
        weight = share.detach().sigmoid()
        real = real.requires_grad_()
        logits = D(real)
        (gradient,) = torch.autograd.grad(logits.sum(), real, create_graph=True)
        fakes = weight * F.softplus(D(plain)) + (1 - weight) * F.softplus(D(mirrored))
        move_d.zero_grad()
        (F.softplus(-logits) + fakes + 0.5 * gradient.square().sum(1, keepdim=True)).mean().backward()
        move_d.step()
        move_g.zero_grad()
        weight = share.sigmoid()
        (weight * F.softplus(-D(plain)) + (1 - weight) * F.softplus(-D(mirrored))).mean().backward()
        move_g.step()
        found.append(share.sigmoid().item())
    return sum(found[-200:]) / 200


def test_a_generator_learns_the_datas_own_statistics() -> None:
    """And not those of what D sees, in which only 0.58 of the images are not mirrored."""
    assert _train(0.8) == pytest.approx(0.9, abs=0.07)
