"""One law by which classes are drawn, for everything that a snapshot makes, and its name in the protocol of a score."""

from dataclasses import replace

import torch

from bigtrain.core.rng import Draws
from bigtrain.engine.sampler import NO_PRIOR
from bigtrain.models import ImageSpec
from bigtrain.tasks.samplers import SynthesisSampler

EVEN = SynthesisSampler.for_images(ImageSpec(8, 1, 3))


def test_classes_have_the_shares_of_the_dataset() -> None:
    sampler = replace(EVEN, class_weights=(600.0, 0.0, 200.0))
    drawn = sampler.draw_inputs(Draws(0, torch.arange(4000)))["class"]
    shares = torch.bincount(drawn, minlength=3) / 4000
    torch.testing.assert_close(shares, torch.tensor([0.75, 0.0, 0.25]), atol=0.03, rtol=0)


def test_equal_priors_have_equal_names_and_others_do_not() -> None:
    shares = replace(EVEN, class_weights=(600.0, 0.0, 200.0))
    again = SynthesisSampler.read(shares.describe())
    assert again.prior == shares.prior == replace(EVEN, class_weights=(3.0, 0.0, 1.0)).prior
    assert EVEN.prior == "classes even"
    assert SynthesisSampler.for_images(ImageSpec(8, 1, 0)).prior == NO_PRIOR
    assert len({EVEN.prior, shares.prior, replace(EVEN, class_weights=(600.0, 1.0, 200.0)).prior}) == 3
