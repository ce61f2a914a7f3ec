"""HiFi-GAN's shapes and what it refuses; that it is the published one, tests/numerics tells."""

from typing import Any

import pytest
import torch

from bigtrain.core.config import ConfigError, parse_config
from bigtrain.models import ArraySpec
from bigtrain.models.hifigan import HiFiGANConfig, HiFiGANDiscriminatorConfig

SMALL = {"width": 16, "rates": [8, 8], "kernels": [16, 16]}
PARTS = {"period_widths": [4, 8], "scale_widths": [16] * 7}


@pytest.mark.parametrize("block", [1, 2])
def test_a_spectrogram_of_any_length_becomes_a_sound(block: int) -> None:
    config = parse_config(HiFiGANConfig, {**SMALL, "block": block}, source="test")
    network = config.build(ArraySpec((20, 16)), ArraySpec((1, 1024)))
    with torch.no_grad():
        sound = network(torch.randn(2, 20, 16))
        assert sound.shape == (2, 1, 1024) and sound.abs().max() <= 1
        assert network(torch.randn(1, 20, 23)).shape == (1, 1, 23 * 64)
        with torch.autocast("cpu", torch.bfloat16):
            assert network(torch.randn(2, 20, 16)).dtype == torch.float32
    assert set(network.stages()) <= set(network.modules())


@pytest.mark.parametrize("samples", [1024, 1000, 4096 + 37])
def test_every_part_has_as_many_logits_as_it_says(samples: int) -> None:
    config = parse_config(HiFiGANDiscriminatorConfig, PARTS, source="test")
    network = config.build(ArraySpec((1, samples)))
    *layers, logits = network.features(torch.randn(2, 1, samples))
    assert len(network.opinions) == 8
    assert logits.shape == (2, sum(network.opinions))
    assert len(layers) == 5 * 2 + 3 * 7
    assert torch.equal(network.eval()(torch.ones(2, 1, samples)), network.eval()(torch.ones(2, 1, samples)))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({**SMALL, "kernels": [16]}, "kernels must have as many values as rates"),
        ({**SMALL, "kernels": [16, 15]}, "kernels minus rates must be even"),
        ({**SMALL, "width": 18}, "width 18 cannot be halved 2 times"),
        ({**SMALL, "block_kernels": [2, 7, 11]}, "must be odd"),
    ],
)
def test_generators_that_cannot_be_are_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_config(HiFiGANConfig, config, source="test")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"periods": [], "scales": 0}, "set periods or scales"),
        ({"scale_widths": [16] * 6}, "scale_widths has 6 numbers"),
        ({"scale_widths": [16, 16, 16, 24, 16, 16, 16]}, "do not divide into 16 groups"),
    ],
)
def test_discriminators_that_cannot_be_are_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_config(HiFiGANDiscriminatorConfig, config, source="test")


def test_what_does_not_fit_the_sounds_is_told() -> None:
    with pytest.raises(ValueError, match=r"hifigan makes 64 samples .* of each frame"):
        parse_config(HiFiGANConfig, SMALL, source="test").build(ArraySpec((20, 16)), ArraySpec((1, 1000)))
    with pytest.raises(ValueError, match="set conditional: false"):
        HiFiGANDiscriminatorConfig().build(ArraySpec((1, 1024)), ArraySpec((20, 16)))
