import numpy as np
import pytest
import torch

from bigtrain.core.schedules import LinearSchedule
from bigtrain.core.state import Progress
from bigtrain.engine.ema import EMA, EMAConfig, gamma_of
from bigtrain.models import ImageSpec
from bigtrain.models.biggan import BigGANGeneratorConfig


def small() -> torch.nn.Module:
    return BigGANGeneratorConfig(z_dim=4, width=1, multiples=(1, 1)).build(ImageSpec(8, 1))


def live(network: torch.nn.Module) -> list[tuple[str, torch.Tensor]]:
    return list(network.state_dict().items())


def test_a_half_life_halves_the_distance() -> None:
    generator = small()
    ema = EMA(EMAConfig(half_life_kimg=0.1, rampup=0), generator)
    with torch.no_grad():
        for value in generator.parameters():
            value.add_(1.0)
    progress = Progress(1000, 50)
    for distance in (0.5**0.5, 0.5, 0.5**1.5):
        ema.update(live(generator), progress)
        progress.advance()
        for name, value in ema.network.named_parameters():
            torch.testing.assert_close(generator.get_parameter(name) - value, torch.full_like(value, distance))


def test_a_young_average_forgets_faster() -> None:
    generator = small()
    ema = EMA(EMAConfig(half_life_kimg=1000, rampup=0.1), generator)
    with torch.no_grad():
        for value in generator.parameters():
            value.add_(1.0)
    ema.update(live(generator), Progress(10_000, 10))
    moved = ema.network.linear.bias - (generator.linear.bias - 1)
    assert moved.mean().item() == pytest.approx(1 - 0.5 ** (10 / 1), rel=1e-4)


def test_buffers_are_copied_not_averaged() -> None:
    generator = small()
    ema = EMA(EMAConfig(half_life_kimg=1000, rampup=0), generator)
    for value in generator.buffers():
        value.add_(1.0)
    ema.update(live(generator), Progress(1000, 10))
    for name, value in ema.network.named_buffers():
        assert torch.equal(value, generator.get_buffer(name)), name


def test_it_keeps_its_own_weights_and_never_trains() -> None:
    generator = small()
    ema = EMA(EMAConfig(half_life_kimg=1), generator)
    assert not ema.network.training
    assert not any(value.requires_grad for value in ema.network.parameters())
    assert ema.network.linear.weight.data_ptr() != generator.linear.weight.data_ptr()


def test_the_half_life_follows_its_schedule() -> None:
    generator = small()
    half_life = LinearSchedule(value=0.1, final=0.05)
    ema = EMA(EMAConfig(half_life_kimg=half_life, rampup=0), generator)
    with torch.no_grad():
        generator.linear.bias.add_(1.0)
    progress = Progress(1000, 50)
    progress.samples_seen = 500
    ema.update(live(generator), progress)
    moved = ema.network.linear.bias - (generator.linear.bias - 1)
    assert moved.mean().item() == pytest.approx(1 - 0.5 ** (50 / 75), rel=1e-4)


@pytest.mark.parametrize("sigma_rel", [0.05, 0.10, 0.25])
def test_gamma_is_that_of_a_profile_so_wide(sigma_rel: float) -> None:
    time = np.linspace(0, 1, 200_001)[1:]
    weight = time ** gamma_of(sigma_rel)
    weight /= weight.sum()
    mean = (weight * time).sum()
    assert ((weight * (time - mean) ** 2).sum()) ** 0.5 == pytest.approx(sigma_rel, rel=1e-3)


def test_a_profile_weighs_the_past_by_its_power_function() -> None:
    """After T steps of a weight that is one-hot in time, the average holds step t with (t^(γ+1) - (t-1)^(γ+1)) / T^…"""
    steps, sigma_rel, marked = 20, 0.1, 13
    generator = small()
    ema = EMA(EMAConfig(half_life_kimg=1, profiles=(sigma_rel,)), generator)
    progress = Progress(1000, 10)
    for step in range(1, steps + 1):
        with torch.no_grad():
            generator.linear.bias.fill_(float(step == marked))
        ema.update(live(generator), progress)
        progress.advance()
    power = gamma_of(sigma_rel) + 1
    kept = 1.0
    for step in range(marked + 1, steps + 1):
        kept *= (1 - 1 / step) ** power
    expected = (1 - (1 - 1 / marked) ** power) * kept
    assert expected == pytest.approx((marked**power - (marked - 1) ** power) / steps**power)
    assert ema.profiles[sigma_rel].linear.bias.mean().item() == pytest.approx(expected, rel=1e-4)


def test_profiles_are_saved_with_the_rest() -> None:
    config = EMAConfig(half_life_kimg=1, profiles=(0.05, 0.1))
    ema, resumed = EMA(config, small()), EMA(config, small())
    assert not torch.equal(ema.profiles[0.1].linear.weight, resumed.profiles[0.1].linear.weight)
    resumed.load_state_dict(ema.state_dict())
    for sigma_rel in config.profiles:
        assert torch.equal(ema.profiles[sigma_rel].linear.weight, resumed.profiles[sigma_rel].linear.weight)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"half_life_kimg": 0.0}, "above 0"),
        ({"half_life_kimg": 1.0, "profiles": (0.1, 0.1)}, "each width may be listed only once"),
    ],
)
def test_an_average_that_cannot_be_is_refused(keys: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        EMAConfig(**keys)
