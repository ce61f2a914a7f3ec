import pytest
import torch

from bigtrain.core.state import Progress
from bigtrain.ema import EMA, EMAConfig
from bigtrain.models import ImageSpec
from bigtrain.models.biggan import BigGANGeneratorConfig


def small() -> torch.nn.Module:
    return BigGANGeneratorConfig(z_dim=4, width=1, multiples=(1, 1)).build(ImageSpec(8, 1))


def prefixed(network: torch.nn.Module, prefix: str = "G.") -> list[tuple[str, torch.Tensor]]:
    return [(prefix + name, value) for name, value in network.state_dict().items()]


def test_a_half_life_halves_the_distance() -> None:
    generator = small()
    ema = EMA(EMAConfig(half_life_kimg=0.1, rampup=0), generator, prefix="G.")
    with torch.no_grad():
        for value in generator.parameters():
            value.add_(1.0)
    progress = Progress(1000, 50)
    for distance in (0.5**0.5, 0.5, 0.5**1.5):
        ema.update(prefixed(generator), progress)
        progress.advance()
        for name, value in ema.generator.named_parameters():
            torch.testing.assert_close(generator.get_parameter(name) - value, torch.full_like(value, distance))


def test_a_young_average_forgets_faster() -> None:
    generator = small()
    ema = EMA(EMAConfig(half_life_kimg=1000, rampup=0.1), generator, prefix="G.")
    with torch.no_grad():
        for value in generator.parameters():
            value.add_(1.0)
    ema.update(prefixed(generator), Progress(10_000, 10))
    moved = ema.generator.linear.bias - (generator.linear.bias - 1)
    assert moved.mean().item() == pytest.approx(1 - 0.5 ** (10 / 1), rel=1e-4)


def test_buffers_are_copied_not_averaged() -> None:
    generator = small()
    ema = EMA(EMAConfig(half_life_kimg=1000, rampup=0), generator, prefix="G.")
    for value in generator.buffers():
        value.add_(1.0)
    ema.update(prefixed(generator), Progress(1000, 10))
    for name, value in ema.generator.named_buffers():
        assert torch.equal(value, generator.get_buffer(name)), name


def test_it_keeps_its_own_weights_and_never_trains() -> None:
    generator = small()
    ema = EMA(EMAConfig(half_life_kimg=1), generator)
    assert not ema.generator.training
    assert not any(value.requires_grad for value in ema.generator.parameters())
    assert ema.generator.linear.weight.data_ptr() != generator.linear.weight.data_ptr()
