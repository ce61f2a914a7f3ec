"""The inpainter: known pixels are the input's, holes are filled from elsewhere, and wrong images are refused."""

import pytest
import torch

from bigtrain.models import ImageSpec
from bigtrain.models.gated_inpainter import GatedInpainter, GatedInpainterConfig, ToImage, contextual_attention
from bigtrain.models.initialise import initialise
from bigtrain.models.layers.holes import smoothly_filled

HOLED, WHOLE = ImageSpec(16, 4), ImageSpec(16, 3)
SMALL = GatedInpainterConfig(width=4, dilations=(2,))


@pytest.fixture
def network() -> GatedInpainter:
    torch.manual_seed(0)
    network = SMALL.build(HOLED, WHOLE)
    initialise(network)
    return network


@pytest.fixture
def images() -> torch.Tensor:
    """Two images, of which the left half is known of one, and all but a square of the other."""
    image = torch.rand(2, 4, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    image[:, 3] = 1.0
    image[0, 3, :, 8:] = -1.0
    image[1, 3, 4:8, 4:8] = -1.0
    return image


def test_known_pixels_are_the_inputs(network: GatedInpainter, images: torch.Tensor) -> None:
    known = (images[:, 3:] > 0).expand(-1, 3, -1, -1)
    made = network(images)
    assert made.shape == (2, 3, 16, 16)
    assert made.dtype == torch.float32
    assert torch.equal(made[known], images[:, :3][known])
    assert made[~known].abs().max() < 1
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(network(images)[known], images[:, :3][known])
    assert network(torch.cat([images, images], 3)).shape == (2, 3, 16, 32)


def test_every_layer_learns(network: GatedInpainter, images: torch.Tensor) -> None:
    network(images).square().mean().backward()
    assert all(value.grad is not None and value.grad.any() for _, value in network.named_parameters())
    assert sum(1 for stage in network.stages() for _ in stage.parameters()) == sum(1 for _ in network.parameters())
    coarse = SMALL.model_copy(update={"refine": False}).build(HOLED, WHOLE)
    assert len(coarse.state_dict()) < len(network.state_dict()) / 2


def test_a_smooth_start_is_what_the_stages_add_to(images: torch.Tensor) -> None:
    network = SMALL.model_copy(update={"smooth_start": True}).build(HOLED, WHOLE)
    initialise(network)
    holes = images[:, 3:] < 0
    start = smoothly_filled(images[:, :3], holes)
    assert 0 < (network(images) - start).abs().max() < 0.1, "the stages begin with little"
    for layer in network.modules():
        if isinstance(layer, ToImage):
            torch.nn.init.zeros_(layer.weight)
    torch.testing.assert_close(network(images), start)


def test_holes_are_filled_smoothly() -> None:
    """A ramp is known but for a stripe, in which it goes on; what lies in holes has no effect."""
    ramp = torch.linspace(-1, 1, 32).expand(1, 3, 24, 32).clone()
    holes = torch.zeros(1, 1, 24, 32, dtype=torch.bool)
    holes[..., 14:18] = True
    filled = smoothly_filled(ramp, holes)
    assert torch.equal(filled[..., :14], ramp[..., :14])
    assert (filled - ramp).abs().max() < 0.15
    assert torch.equal(smoothly_filled(ramp.masked_fill(holes, 9.0), holes), filled)
    assert not smoothly_filled(ramp, torch.ones_like(holes)).any()
    assert torch.equal(smoothly_filled(ramp, torch.zeros_like(holes)), ramp)


@pytest.mark.parametrize("halvings", [1, 2, 3])
def test_signals_pass_all_layers(halvings: int) -> None:
    """As each gate takes half of a layer's output, small weights would leave nothing to learn from."""
    torch.manual_seed(0)
    network = SMALL.model_copy(update={"halvings": halvings, "width": 16}).build(HOLED, WHOLE)
    initialise(network)
    features = network.coarse[:-1](torch.rand(4, 4, 32, 32) * 2 - 1)
    assert 0.01 < features.std(0).mean() < 3, "images differ in it"


def test_attention_takes_from_what_is_known_alone() -> None:
    """A hole in a chequered wall is filled with the wall; what lies in the hole changes nothing elsewhere."""
    wall = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(8, 8).repeat_interleave(2, 0).repeat_interleave(2, 1)
    features = torch.stack([wall, wall.flip(1), wall * 0.5])[None]
    holes = torch.zeros(1, 1, 64, 64, dtype=torch.bool)
    holes[..., 24:40, 24:40] = True
    rebuilt = contextual_attention(features, holes)
    assert rebuilt.shape == features.shape
    other = features.clone()
    other[..., 14:18, 14:18] = 7.0
    changed = contextual_attention(other, holes)
    assert changed.max() <= 1.0 + 1e-5, "nothing is taken from a hole"
    torch.testing.assert_close(changed[..., :6, :6], rebuilt[..., :6, :6])
    assert contextual_attention(features, torch.ones_like(holes)).isfinite().all()


def test_it_is_as_large_as_the_papers() -> None:
    with torch.device("meta"):
        network = GatedInpainterConfig().build(ImageSpec(256, 4), ImageSpec(256, 3))
    millions = sum(value.numel() for value in network.parameters()) / 1e6
    assert millions == pytest.approx(4.1, abs=0.2), "Yu et al. 2019, section 3.4"


@pytest.mark.parametrize(
    ("source", "target", "words"),
    [
        (WHOLE, WHOLE, "needs a further channel that marks them: 4 channels, not 3; see the derived field"),
        (ImageSpec(32, 4), WHOLE, "outputs as large as its inputs, not 16x16 from 32x32"),
        (ImageSpec(12, 4), ImageSpec(12, 3), "12x12 pixels: height and width must be multiples of 8"),
    ],
)
def test_other_images_are_refused(source: ImageSpec, target: ImageSpec, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        SMALL.build(source, target)
