"""Images that are not square, of one to four channels; networks that are filled after they were built."""

import pytest
import torch
from torch import nn

from bigtrain.models import ImageSpec
from bigtrain.models.biggan import BigGANDiscriminatorConfig, BigGANGeneratorConfig
from bigtrain.models.dcgan import DCGANDiscriminatorConfig
from bigtrain.models.sngan import SNGANGeneratorConfig
from bigtrain.models.vit import ViTGeneratorConfig
from tests.unit.models.test_families import DISCRIMINATORS, GENERATORS

WIDE = ImageSpec(32, 2, 3, width=64)
TALL = ImageSpec(64, 4, 0, width=32)
FREE = [config for config in GENERATORS if not config.kind.startswith("style")]
FREE_DISCRIMINATORS = [config for config in DISCRIMINATORS if not config.kind.startswith("style")]


def refill(network: nn.Module) -> None:
    """Forget all values, then let each module fill its own."""
    network.to_empty(device="cpu")
    with torch.no_grad():
        for value in [*network.parameters(), *network.buffers()]:
            value.fill_(torch.nan)
    for module in network.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()


@pytest.mark.parametrize("image", [WIDE, TALL])
@pytest.mark.parametrize("config", FREE)
def test_a_generator_of_any_shape_is_filled_in_place(config, image: ImageSpec) -> None:
    with torch.device("meta"):
        generator = config.build(image)
    refill(generator)
    assert set(generator.stages()) <= set(generator.modules())
    with torch.autocast("cpu", torch.bfloat16):
        fake = generator(torch.randn(2, generator.z_dim), torch.tensor([0, 2]))
    assert fake.shape == (2, *image.shape)
    assert fake.dtype == torch.float32
    assert fake.isfinite().all()


@pytest.mark.parametrize("image", [WIDE, TALL])
@pytest.mark.parametrize("config", FREE_DISCRIMINATORS)
def test_a_discriminator_of_any_shape_is_filled_in_place(config, image: ImageSpec) -> None:
    with torch.device("meta"):
        network = config.build(image)
    refill(network)
    assert set(network.stages()) <= set(network.modules())
    real = torch.randn(2, *image.shape)
    *_, last = network.features(real, torch.tensor([0, 2]))
    assert last.shape == (2, network.features_dim)
    assert network(real, torch.tensor([0, 2])).isfinite().all()


def test_48_pixels_grow_from_6() -> None:
    image = ImageSpec(48, 3)
    generator = SNGANGeneratorConfig(width=4, multiples=(4, 2, 2, 1)).build(image)
    assert generator.eval()(torch.randn(2, 128), torch.zeros(2, dtype=torch.int64)).shape == (2, 3, 48, 48)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (BigGANGeneratorConfig(), "do not double 4 pixels to 32x50"),
        (BigGANDiscriminatorConfig(), "halves its images 2 times, which 32x50"),
        (DCGANDiscriminatorConfig(), "32x50 cannot be halved so often"),
        (ViTGeneratorConfig(), "32x50 do not divide into patches of 4"),
    ],
)
def test_an_impossible_shape_is_refused(config, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        config.build(ImageSpec(32, 3, width=50))
