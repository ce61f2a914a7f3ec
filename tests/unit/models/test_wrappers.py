"""Discriminators made of others."""

import pytest
import torch
import torch.nn.functional as F

from bigtrain.core.config import Config, dump_yaml, parse_config
from bigtrain.models import DiscriminatorConfig, ImageSpec
from bigtrain.models.biggan import BigGANDiscriminatorConfig
from bigtrain.models.minibatch_discrimination import Closeness, MinibatchDiscriminatorConfig
from bigtrain.models.multi_scale import MultiScaleDiscriminatorConfig
from bigtrain.models.stylegan2 import StyleGAN2DiscriminatorConfig

IMAGE = ImageSpec(16, 1, 3)
BASE = BigGANDiscriminatorConfig(width=4, multiples=(1, 2), halvings=1)
LABEL = torch.tensor([0, 1, 2, 0])


class Run(Config):
    discriminator: DiscriminatorConfig


def test_each_scale_is_a_discriminator_of_a_smaller_image() -> None:
    network = MultiScaleDiscriminatorConfig(base=BASE, scales=3).build(IMAGE).eval()
    image = torch.randn(4, 1, 16, 16)
    logits = network(image, LABEL)
    assert logits.shape == (4, 3)
    for number, scale in enumerate(network.scales):
        torch.testing.assert_close(scale(image, LABEL), logits[:, number])
        assert scale.image.resolution == 16 // 2**number
        image = F.avg_pool2d(image, 2)


def test_closeness_counts_the_others() -> None:
    closeness = Closeness(3, 2, 4)
    alone, twins = torch.randn(1, 3), torch.randn(1, 3)
    assert closeness(alone).abs().max() < 1e-6
    torch.testing.assert_close(closeness(twins.expand(5, 3)), torch.full((5, 2), 4.0))
    apart = closeness(torch.tensor([[0.0, 0, 0], [1e4, 1e4, 1e4]]))
    assert apart.abs().max() < 1e-6


def test_a_sample_is_judged_by_its_company() -> None:
    network = MinibatchDiscriminatorConfig(base=BASE, kernels=8).build(IMAGE).eval()
    image = torch.randn(4, 1, 16, 16)
    varied = network(image, LABEL)
    collapsed = network(image[:1].expand(4, 1, 16, 16), LABEL[:1].expand(4))
    base = network.base(image, LABEL)
    assert (varied[0] - collapsed[0]).abs() > 1e-4
    closeness = network.features(image, LABEL)[-1][:, -8:]
    torch.testing.assert_close(varied, base + network.linear(closeness).squeeze(1))


@pytest.mark.parametrize(
    "config", [MultiScaleDiscriminatorConfig(base=BASE, scales=2), MinibatchDiscriminatorConfig(base=BASE, kernels=4)]
)
def test_they_have_second_derivatives(config: MultiScaleDiscriminatorConfig) -> None:
    network = config.build(IMAGE)
    image = torch.randn(4, 1, 16, 16, requires_grad=True)
    logits = network(image, LABEL)
    (slope,) = torch.autograd.grad(logits.sum(), image, create_graph=True)
    (slope.square().sum() + logits.sum()).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    assert network.features(image, LABEL)[-1].shape == (4, network.features_dim)


def test_they_can_hold_one_another_in_a_config() -> None:
    written = {
        "kind": "multi_scale",
        "scales": 2,
        "base": {"kind": "minibatch_discrimination", "base": {"kind": "sngan"}},
    }
    run = parse_config(Run, {"discriminator": written}, source="run.yaml")
    assert isinstance(run.discriminator.base, MinibatchDiscriminatorConfig)
    assert parse_config(Run, run.model_dump(mode="json"), source="again") == run
    assert "minibatch_discrimination" in dump_yaml(run)


def test_an_image_that_cannot_be_halved_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be halved 2 times"):
        MultiScaleDiscriminatorConfig(base=BASE, scales=3).build(ImageSpec(18, 1))


def test_wrappers_compare_as_many_samples_as_what_they_wrap() -> None:
    base = StyleGAN2DiscriminatorConfig(channel_base=32, channel_max=4, mbstd_group=2)
    assert BASE.build(IMAGE).group == 1
    assert MultiScaleDiscriminatorConfig(base=base, scales=2).build(IMAGE).group == 2
    assert MinibatchDiscriminatorConfig(base=base).build(IMAGE).group == 2
