"""WaveGAN: the published sizes, conditions, and what it refuses."""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F

from bigtrain.models import ArraySpec, ImageSpec
from bigtrain.models.dcgan import DCGANGeneratorConfig
from bigtrain.models.network_spec import NetworkSpec
from bigtrain.models.wavegan import WaveGANDiscriminatorConfig, WaveGANGeneratorConfig


def test_published_numbers_of_parameters() -> None:
    """Donahue et al. 2019, tables 3 and 4, d = 64 and one channel: layers of 25 samples, both with their biases."""
    with torch.device("meta"):
        G = WaveGANGeneratorConfig(width=64).build(ArraySpec((1, 16384)))
        D = WaveGANDiscriminatorConfig(width=64).build(ArraySpec((1, 16384)))
    widths = [1, 64, 128, 256, 512, 1024]
    layers = sum(25 * one * other for one, other in pairwise(widths))
    assert sum(weight.numel() for weight in G.parameters()) == layers + 101 * 16384 + 512 + 256 + 128 + 64 + 1
    assert sum(weight.numel() for weight in D.parameters()) == layers + 16384 + 1 + 64 + 128 + 256 + 512 + 1024


def test_sounds_have_a_class() -> None:
    torch.manual_seed(0)
    sound = ArraySpec((2, 256), classes=3)
    G, D = WaveGANGeneratorConfig(width=4, z_dim=8).build(sound), WaveGANDiscriminatorConfig(width=4).build(sound)
    z, label = torch.randn(3, 8), torch.tensor([0, 1, 2])
    made = G(z, label)
    assert made.shape == (3, 2, 256)
    assert made.abs().max() <= 1
    assert (G(z, label.roll(1)) - made).abs().max() > 0
    assert (D(made, label.roll(1)) - D(made, label)).abs().max() > 0


def test_both_networks_learn_tones() -> None:
    torch.manual_seed(0)
    sound = ArraySpec((1, 256), classes=2)
    G, D = WaveGANGeneratorConfig(width=8, z_dim=4).build(sound), WaveGANDiscriminatorConfig(width=4).build(sound)
    times, label = torch.arange(256) / 256, torch.arange(8) % 2
    tones = torch.stack([torch.sin(2 * torch.pi * pitch * times) for pitch in (6, 20)])[label][:, None]
    of_G, of_D = (torch.optim.Adam(network.parameters(), lr=3e-3) for network in (G, D))
    for _ in range(100):
        loss_G = (G(torch.randn(8, 4), label) - tones).square().mean()
        of_G.zero_grad()
        loss_G.backward()
        of_G.step()
    for _ in range(40):
        loss_D = F.softplus(-D(tones, label)).mean() + F.softplus(D(tones, 1 - label)).mean()
        of_D.zero_grad()
        loss_D.backward()
        of_D.step()
    assert loss_G < 0.05  # 0.5 of silence, 0.25 without a class
    assert loss_D < 0.3  # 1.39 of a guess: only the class tells the two apart


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (NetworkSpec("generator", "generator", WaveGANGeneratorConfig(), (ArraySpec((1, 9000)),)), "use 4096 or 16384"),
        (
            NetworkSpec("generator", "generator", WaveGANGeneratorConfig(), (ImageSpec(32, 3),)),
            r"generator: 'wavegan' works on samples of another shape than images, but the field has the shape \[3, 32",
        ),
        (
            NetworkSpec("generator", "generator", DCGANGeneratorConfig(), (ArraySpec((1, 16384)),)),
            r"generator: 'dcgan' works on images \[C, H, W\], but the field has the shape \[1, 16384\]",
        ),
    ],
)
def test_what_does_not_fit_is_named(spec: NetworkSpec, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        spec.build()


def test_a_snapshot_describes_arrays() -> None:
    spec = NetworkSpec("generator", "generator", WaveGANGeneratorConfig(), (ArraySpec((1, 4096), classes=2),))
    assert NetworkSpec.read(spec.describe()) == spec
