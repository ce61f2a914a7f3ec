import pytest
import torch

from bigtrain.models import ImageSpec
from bigtrain.models.r3gan import R3GANDiscriminatorConfig, R3GANGeneratorConfig


def test_half_of_the_cifar10_preset_has_the_published_number_of_parameters() -> None:
    image = ImageSpec(32, 3)
    with torch.device("meta"):
        networks = [
            R3GANGeneratorConfig(preset="cifar10", scale=0.5).build(image),
            R3GANDiscriminatorConfig(preset="cifar10", scale=0.5).build(image),
        ]
    assert [sum(value.numel() for value in network.parameters()) for network in networks] == [5_647_488, 5_623_296]


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (R3GANGeneratorConfig(), "needs a preset, or widths"),
        (R3GANGeneratorConfig(preset="ffhq64"), "5 stages do not double 4 pixels to 32x32"),
        (R3GANDiscriminatorConfig(widths=(8, 8), groups=(3, 3), blocks=(1, 1)), "16 inner channels"),
        (R3GANDiscriminatorConfig(preset="cifar10", blocks=(1, 1)), "4 widths, 4 groups and 2 blocks"),
    ],
)
def test_an_impossible_shape_is_refused(config, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        config.build(ImageSpec(32, 3))
