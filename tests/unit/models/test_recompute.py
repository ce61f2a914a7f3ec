"""Computing stages again in the backward pass changes memory, and nothing else."""

import copy
from itertools import accumulate

import pytest
import torch
from torch import nn

from bigtrain.core.rng import Draws
from bigtrain.models import ImageSpec
from bigtrain.models.recompute import recompute_stages
from bigtrain.models.stylegan2 import StyleGAN2DiscriminatorConfig
from bigtrain.models.superresolution import RRDBConfig
from bigtrain.objectives.regularizers import r1_penalty
from tests.unit.models.test_families import DISCRIMINATORS, GENERATORS

IMAGE = ImageSpec(32, 3, 5)
LABEL = torch.tensor([0, 1, 2, 3])


def twins(config) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    plain = config.build(IMAGE).train()
    again = copy.deepcopy(plain)
    recompute_stages(again)
    assert [name for name, _ in again.named_parameters()] == [name for name, _ in plain.named_parameters()]
    return plain, again


def assert_same(plain: nn.Module, again: nn.Module) -> None:
    gradients = dict(plain.named_parameters())
    for name, parameter in again.named_parameters():
        assert parameter.grad is not None, name
        torch.testing.assert_close(parameter.grad, gradients[name].grad, rtol=1e-4, atol=1e-6, msg=name)
    state = plain.state_dict()
    for name, value in again.state_dict().items():
        assert torch.equal(value, state[name]), f"{name}: the state moved otherwise"


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("config", DISCRIMINATORS)
def test_a_discriminator_with_its_gradient_penalty(config, precision: torch.dtype) -> None:
    networks = twins(config)
    real, fake = torch.randn(4, 3, 32, 32), torch.randn(4, 3, 32, 32)
    for network in networks:
        with torch.autocast("cpu", precision, enabled=precision != torch.float32):
            leaf = real.clone().requires_grad_()
            logits = network(leaf, LABEL)
            loss = (logits - network(fake, LABEL)).mean() + r1_penalty(logits, leaf).mean()
        loss.backward()
    assert_same(*networks)


@pytest.mark.parametrize("config", GENERATORS)
def test_a_generator_with_its_draws(config) -> None:
    networks = twins(config)
    draws = Draws(0, torch.arange(4), "g")
    for network in networks:
        z = draws.of("z").normal(network.z_dim)
        first, second = network(z, LABEL, draws=draws), network(z.flip(0), LABEL, draws=draws)
        (first.square().mean() + second.mean()).backward()
    assert_same(*networks)


def test_a_copy_is_its_own() -> None:
    _, again = twins(StyleGAN2DiscriminatorConfig(channel_base=128, channel_max=8))
    copied = copy.deepcopy(again)
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.zero_()
    image = torch.randn(4, 3, 32, 32)
    assert copied(image, LABEL).abs().max() == 0
    assert again(image, LABEL).abs().max() > 0
    assert not torch.equal(again.b32.conv0.weight, copied.b32.conv0.weight)


def peak_memory(network: nn.Module) -> int:
    """Return the most bytes that tensors take at once in forward and backward, as PyTorch's profiler sees them."""
    low = torch.rand(4, 3, 32, 32)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        network(low).sum().backward()
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    return max(accumulate(event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())))


def test_memory_is_lower() -> None:
    plain = RRDBConfig(scale=2, width=8, growth=8, blocks=6).build(IMAGE, ImageSpec(64, 3)).train()
    again = copy.deepcopy(plain)
    recompute_stages(again)
    assert peak_memory(again) < 0.5 * peak_memory(plain)
