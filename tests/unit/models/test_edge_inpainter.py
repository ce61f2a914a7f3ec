"""The inpainter by edges: known pixels are the input's, the stages learn apart, and wrong images are refused."""

import pytest
import torch
import torch.nn.functional as F

from bigtrain.augment.derived.edges import EdgesConfig
from bigtrain.augment.derived.holes import HolesConfig
from bigtrain.core.rng import Draws
from bigtrain.models import ImageSpec
from bigtrain.models.edge_inpainter import EdgeInpainter, EdgeInpainterConfig
from bigtrain.models.initialise import initialise
from bigtrain.models.layers.holes import smoothly_filled
from bigtrain.models.resnet_translator import ResNetTranslatorConfig

HOLED, WHOLE = ImageSpec(16, 4), ImageSpec(16, 3)
RESNET = ResNetTranslatorConfig(width=6, blocks=1, dilation=2)
SMALL = EdgeInpainterConfig(edges=RESNET, image=RESNET, sigma=0.5)


@pytest.fixture
def network() -> EdgeInpainter:
    torch.manual_seed(0)
    network = SMALL.build(HOLED, WHOLE)
    initialise(network)
    return network


@pytest.fixture
def images() -> torch.Tensor:
    """Discs and stripes in colours, shape [4, 3, 16, 16]."""
    y, x = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    disc = ((x - 8) ** 2 + (y - 7) ** 2 < 25).float()
    shapes = torch.stack([disc, 1 - disc, (x + y > 16).float(), (x > 7).float()])
    return shapes[:, None] * torch.tensor([1.4, 0.7, -1.0]).reshape(1, 3, 1, 1) - 0.4


@pytest.fixture
def holed(images: torch.Tensor) -> torch.Tensor:
    return HolesConfig(kind="holes", strokes=2).compute(images, Draws(0, torch.arange(4), "test"))


def test_known_pixels_are_the_inputs_and_holes_tell_nothing(network: EdgeInpainter, holed: torch.Tensor) -> None:
    known = holed[:, 3:] > 0
    edges, made = network.both(holed)
    assert (edges.shape, made.shape) == ((4, 1, 16, 16), (4, 3, 16, 16))
    assert torch.equal(made[known.expand_as(made)], holed[:, :3][known.expand_as(made)])
    assert made[~known.expand_as(made)].abs().max() < 1
    assert torch.equal(network(holed), made)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(network(holed)[known.expand_as(made)], holed[:, :3][known.expand_as(made)])
    assert network(torch.cat([holed, holed], 3)).shape == (4, 3, 16, 32)
    grey = SMALL.build(ImageSpec(16, 2), ImageSpec(16, 1))
    assert grey(holed[:, [0, 3]]).shape == (4, 1, 16, 16)


def test_a_smooth_start_is_what_the_image_network_adds_to(network: EdgeInpainter, holed: torch.Tensor) -> None:
    smooth = SMALL.model_copy(update={"smooth_start": True}).build(HOLED, WHOLE)
    smooth.load_state_dict(network.state_dict())
    for parameter in smooth.image.parameters():
        torch.nn.init.zeros_(parameter)
    holes = holed[:, 3:] < 0
    made, start = smooth(holed), smoothly_filled(holed[:, :3], holes)
    torch.testing.assert_close(made, start)
    assert not torch.allclose(made, network(holed))


def test_each_stage_learns_from_its_own_losses(network: EdgeInpainter, holed: torch.Tensor) -> None:
    edges, made = network.both(holed)
    made.square().mean().backward(retain_graph=True)
    assert all(value.grad is None for value in network.edges.parameters())
    assert all(value.grad is not None and value.grad.any() for value in network.image.parameters() if value.ndim > 1)
    network.zero_grad()
    edges.square().mean().backward()
    assert all(value.grad is None for value in network.image.parameters())
    assert all(value.grad is not None and value.grad.any() for value in network.edges.parameters() if value.ndim > 1)
    assert sum(1 for stage in network.stages() for _ in stage.parameters()) >= sum(1 for _ in network.parameters()) - 4


def test_it_learns_edges_and_colours_of_holes(
    network: EdgeInpainter, images: torch.Tensor, holed: torch.Tensor
) -> None:
    settings = EdgesConfig(kind="edges", sigma=SMALL.sigma, thresholds=SMALL.thresholds)
    wanted = settings.compute(images, Draws(0, torch.arange(4)))
    optimizer, found = torch.optim.Adam(network.parameters(), 1e-2), []
    for _ in range(15):
        edges, made = network.both(holed)
        losses = F.l1_loss(edges, wanted), F.l1_loss(made, images)
        optimizer.zero_grad()
        sum(losses, torch.zeros(())).backward()
        optimizer.step()
        found.append([loss.item() for loss in losses])
    assert all(last < 0.8 * first for first, last in zip(found[0], found[-1], strict=True))


def test_it_is_as_large_as_the_papers() -> None:
    with torch.device("meta"):
        network = EdgeInpainterConfig().build(ImageSpec(256, 4), ImageSpec(256, 3))
    millions = sum(value.numel() for value in network.parameters()) / 1e6
    assert millions == pytest.approx(2 * 10.8, abs=1.5), "two networks with eight residual blocks of 256 channels"


@pytest.mark.parametrize(
    ("source", "target", "words"),
    [
        (WHOLE, WHOLE, "1 channel from 2 or 3 from 4, not 3 from 3; see the derived field 'holes'"),
        (ImageSpec(32, 4), WHOLE, "outputs as large as its inputs, not 16x16 from 32x32"),
        (ImageSpec(18, 4), ImageSpec(18, 3), "18x18 pixels: height and width must be multiples of 4"),
    ],
)
def test_other_images_are_refused(source: ImageSpec, target: ImageSpec, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        SMALL.build(source, target)
