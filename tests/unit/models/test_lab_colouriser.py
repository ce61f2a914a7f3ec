"""The colouriser: its base chooses the hue, the lightness is the input's, and wrong images are refused in one line."""

import pytest
import torch

from bigtrain.core.rng import Draws
from bigtrain.models import ImageSpec
from bigtrain.models.initialise import initialise
from bigtrain.models.lab_colouriser import LabColouriser, LabColouriserConfig
from bigtrain.models.pix2pix_unet import Pix2PixUNetConfig
from bigtrain.ops.colour import lab_of, lightness_of

GREY, COLOUR = ImageSpec(16, 1), ImageSpec(16, 3)
BASE = Pix2PixUNetConfig(width=4, downs=2, dropout=0.3, norm="instance")


@pytest.fixture
def network() -> LabColouriser:
    torch.manual_seed(0)
    network = LabColouriserConfig(base=BASE).build(GREY, COLOUR)
    initialise(network)
    return network


@pytest.fixture
def grey() -> torch.Tensor:
    return torch.rand(4, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_the_lightness_is_that_of_the_input(network: LabColouriser, grey: torch.Tensor) -> None:
    made = network(grey)
    assert made.shape == (4, 3, 16, 16)
    assert made.dtype == torch.float32
    torch.testing.assert_close(lightness_of(made), lightness_of(grey), rtol=0, atol=2e-3)
    hue = 110 * network.base(grey)
    torch.testing.assert_close(lab_of(made)[:, 1:], hue, rtol=0, atol=2e-2)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = network(grey)
    torch.testing.assert_close(lightness_of(rounded), lightness_of(grey), rtol=0, atol=2e-3)


def test_it_learns_draws_and_divides_as_its_base(network: LabColouriser, grey: torch.Tensor) -> None:
    assert (network.multiple, network.stages()) == (4, network.base.stages())
    network(grey).square().mean().backward()
    gradients = {name: value.grad for name, value in network.named_parameters() if name.endswith("weight")}
    assert all(one is not None and one.isfinite().all() and one.any() for one in gradients.values()), gradients.keys()
    drawn = network(grey, Draws(0, torch.arange(4), "g"))
    assert not torch.equal(drawn, network(grey))


@pytest.mark.parametrize(
    ("source", "target", "words"),
    [
        (COLOUR, COLOUR, "colour images \\(3 channels\\) of grey ones \\(1\\), not 3 channels of 3"),
        (GREY, GREY, "not 1 channels of 1"),
        (GREY, ImageSpec(32, 3), "outputs as large as its inputs, not 32x32 from 16x16"),
    ],
)
def test_other_images_are_refused(source: ImageSpec, target: ImageSpec, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        LabColouriserConfig(base=BASE).build(source, target)
