"""Networks that grow: ProGAN and StyleGAN1."""

import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from bigtrain.core.state import Progress
from bigtrain.engine.ema import EMA, EMAConfig
from bigtrain.models import ImageSpec
from bigtrain.models.layers.growth import Growth, GrowthConfig
from bigtrain.models.progan import ProGANDiscriminatorConfig, ProGANGeneratorConfig
from bigtrain.models.stylegan1 import StyleGAN1DiscriminatorConfig, StyleGAN1GeneratorConfig

GROWTH = GrowthConfig(first=4, stable_kimg=1.0, fade_kimg=2.0)
SMALL = {"channel_base": 64, "channel_max": 8, "growth": GROWTH}
PAIRS = [
    (ProGANGeneratorConfig(z_dim=6, **SMALL), ProGANDiscriminatorConfig(**SMALL)),
    (StyleGAN1GeneratorConfig(z_dim=6, w_dim=6, mapping_layers=1, **SMALL), StyleGAN1DiscriminatorConfig(**SMALL)),
]
IMAGE = ImageSpec(16, 3, 2, width=32)
Z, LABEL = torch.randn(4, 6, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 0, 1])


@given(st.integers(0, 20_000), st.integers(1, 2000))
def test_a_level_is_a_pure_function_that_never_falls(samples_seen: int, more: int) -> None:
    assert 0.0 <= GROWTH.level_at(samples_seen) <= GROWTH.level_at(samples_seen + more)


def test_levels_are_stable_then_fade() -> None:
    levels = [GROWTH.level_at(samples) for samples in (0, 1000, 2000, 3000, 4000, 5000, 6000)]
    assert levels == pytest.approx([0.0, 0.0, 0.5, 1.0, 1.0, 1.5, 2.0])


@pytest.mark.parametrize(("generator", "_discriminator"), PAIRS)
def test_a_young_generator_makes_coarse_images(generator, _discriminator) -> None:
    G = generator.build(IMAGE)
    for samples_seen, side in ((0, 4), (1000, 4), (3000, 8), (3900, 8), (9000, 16)):
        G.grow(samples_seen)
        image = G(Z, LABEL)
        assert image.shape == (4, *IMAGE.shape)
        block = 16 // side
        assert torch.equal(image, image[..., ::block, ::block].repeat_interleave(block, 2).repeat_interleave(block, 3))
        if block > 1:
            assert not torch.equal(image[..., ::block, ::block][..., ::2], image[..., ::block, ::block][..., 1::2])


@pytest.mark.parametrize(("generator", "discriminator"), PAIRS)
def test_levels_fade_in_without_a_jump(generator, discriminator) -> None:
    G, D = generator.build(IMAGE), discriminator.build(IMAGE)
    real = torch.randn(4, *IMAGE.shape)
    for before, after in ((1000, 1001), (2999, 3000)):
        seen = []
        for samples_seen in (before, after):
            G.grow(samples_seen)
            D.grow(samples_seen)
            seen.append((G(Z, LABEL), D(real, LABEL), D.as_generated(real)))
        for old, new in zip(*seen, strict=True):
            torch.testing.assert_close(old, new, rtol=0.0, atol=0.02)
    G.grow(2000)
    half = G(Z, LABEL)
    assert D.growth.fading is False
    assert G.growth.fading is True
    assert (half - G.growth.limit(half)).abs().max() > 1e-3


@pytest.mark.parametrize(("generator", "discriminator"), PAIRS)
@pytest.mark.parametrize("samples_seen", [0, 2000, 3500, 100_000])
def test_every_parameter_has_a_gradient_and_what_has_not_come_rests(generator, discriminator, samples_seen) -> None:
    G, D = generator.build(IMAGE), discriminator.build(IMAGE)
    G.grow(samples_seen)
    D.grow(samples_seen)
    real = torch.randn(4, *IMAGE.shape, requires_grad=True)
    logits = D(real, LABEL)
    (penalty,) = torch.autograd.grad(logits.sum(), real, create_graph=True)
    (D(G(Z, LABEL), LABEL).sum() + logits.sum() + penalty.square().sum()).backward()
    for network in (G, D):
        assert all(parameter.grad is not None for parameter in network.parameters())
        resting = {name.split(".")[1] for name, parameter in network.named_parameters() if not parameter.grad.any()}
        assert ("2" in resting) == (samples_seen < 4000)


def test_real_images_lose_what_the_generator_cannot_make() -> None:
    D = PAIRS[0][1].build(IMAGE)
    real = torch.randn(2, *IMAGE.shape)
    assert torch.equal(D.as_generated(real), F.interpolate(F.avg_pool2d(real, 4), scale_factor=4))
    D.grow(100_000)
    assert torch.equal(D.as_generated(real), real)


def test_the_average_and_a_loaded_network_have_the_size_of_the_live_one() -> None:
    G = PAIRS[0][0].build(IMAGE)
    ema = EMA(EMAConfig(half_life_kimg=1.0), G)
    G.grow(2000)
    ema.update([*G.named_parameters(), *G.named_buffers()], Progress(total=10, batch=1))
    average = ema.network
    average.calibrate(Z, LABEL)
    assert (average.growth.complete, average.growth.fading) == (0, True)
    loaded = PAIRS[0][0].build(IMAGE)
    loaded.load_state_dict(copy.deepcopy(G.state_dict()))
    assert torch.equal(loaded(Z, LABEL), G(Z, LABEL))


def test_without_growth_all_is_there() -> None:
    growth = Growth(None, (4, 8, 16))
    growth.grow(0)
    assert (growth.finest, growth.fading) == (2, False)


def test_a_first_level_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="growth.first"):
        ProGANGeneratorConfig(growth=GrowthConfig(first=5)).build(ImageSpec(16, 3))
