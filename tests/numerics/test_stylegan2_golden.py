"""StyleGAN2 equals the reference implementation: images, truncation, logits, R1, path length, every gradient norm."""

import math

import pytest
import torch
import torch.nn.functional as F

from bigtrain.objectives.regularizers import r1_penalty
from tests.numerics import golden


@pytest.mark.parametrize("name", ["stylegan2-res32-cond", "stylegan2-res64-orig"])
def test_equals_the_reference(name: str) -> None:
    reference = golden.read(name)
    settings, io = reference.settings, reference.io
    G, D, image = reference.build()
    golden.assert_same(G.styles(io["z"], io["c"]), io["ws"])
    fake = G(io["z"], io["c"])
    golden.assert_same(fake, io["img"])
    golden.assert_same(G(io["z"], io["c"], truncation=0.7), io["img_psi07"])

    real = io["real"].requires_grad_()
    real_logits, fake_logits = D(real, io["c"]), D(fake, io["c"])
    golden.assert_same(real_logits, io["logits_real"])
    golden.assert_same(fake_logits, io["logits_fake"])
    F.softplus(-fake_logits).mean().backward(retain_graph=True)
    reference.check_gradient_norms(G, "grad_norm_G_nonsaturating")
    D.zero_grad()

    penalty = r1_penalty(real_logits, real)
    golden.assert_same(penalty, io["r1_penalty"], 1e-3)
    (penalty * settings["r1_gamma"] / 2).mean().backward()
    reference.check_gradient_norms(D, "grad_norm_D_r1")
    (F.softplus(-D(real, io["c"])) + F.softplus(D(fake.detach(), io["c"]))).mean().backward()
    if "grad_norm_D_nonsaturating" in reference.document:
        reference.check_gradient_norms(D, "grad_norm_D_nonsaturating")

    leaves = G.styles(io["z"], io["c"])
    images = G.synthesize(leaves)
    noise = io["pl_noise"] / math.sqrt(image.resolution**2)
    (gradient,) = torch.autograd.grad((images * noise).sum(), leaves, create_graph=True)
    lengths = gradient.square().sum(2).mean(1).sqrt()
    golden.assert_same(lengths, io["pl_lengths"], 1e-3)
    lengths.square().mean().backward()
    reference.check_gradient_norms(G, "grad_norm_G_pl_mean0")
