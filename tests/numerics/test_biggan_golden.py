"""BigGAN equals the reference implementation: images, logits, every gradient norm."""

import pytest

from bigtrain.objectives.adversarial import hinge_d, hinge_g
from tests.numerics import golden


@pytest.mark.parametrize("name", ["biggan-res32", "biggan-res64-hier-attn"])
def test_equals_the_reference(name: str) -> None:
    reference = golden.read(name)
    io = reference.io
    G, D, _ = reference.build()
    fake = G(io["z"], io["y"])
    golden.assert_same(fake, io["img"])
    real_logits, fake_logits = D(io["real"], io["y"]), D(fake, io["y"])
    golden.assert_same(real_logits, io["logits_real"])
    golden.assert_same(fake_logits, io["logits_fake"])
    hinge_g(fake_logits).mean().backward()
    reference.check_gradient_norms(G, "grad_norm_G_hinge")
    D.zero_grad()
    hinge_d(D(io["real"], io["y"]), D(fake.detach(), io["y"])).mean().backward()
    reference.check_gradient_norms(D, "grad_norm_D_hinge")
