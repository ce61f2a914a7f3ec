"""TGAN: sizes, latents of clips and of frames, conditions, derivatives, what it learns, and what it refuses."""

from typing import Any

import pytest
import torch

from bigtrain.models import ArraySpec, DCGANGeneratorConfig
from bigtrain.models.network_spec import NetworkSpec
from bigtrain.models.tgan import TGANDiscriminatorConfig, TGANGeneratorConfig
from tests.unit.models.test_mocogan import moving_bars

CLIP = ArraySpec((4, 1, 8, 8), classes=3)


def networks(clip: ArraySpec = CLIP, *, norm: Any = "layer") -> tuple[Any, Any]:
    torch.manual_seed(0)
    base = DCGANGeneratorConfig(z_dim=10, width=4, norm=norm)
    G = TGANGeneratorConfig(base=base, frame_dim=4, width=16, norm=norm).build(clip)
    return G, TGANDiscriminatorConfig(width=4, norm=norm).build(clip)


def test_published_sizes() -> None:
    """Saito et al. 2017, table 1: 100 numbers for a clip and each of its 16 frames of 64x64."""
    clip = ArraySpec((16, 3, 64, 64))
    with torch.device("meta"):
        G = TGANGeneratorConfig(base=DCGANGeneratorConfig(z_dim=200, width=64)).build(clip)
        D = TGANDiscriminatorConfig().build(clip)
    assert G.z_dim == 100
    layers = list(G.temporal.layers)
    assert [layer.out_channels for layer in layers] == [512, 256, 128, 128, 100]
    assert [(layer.kernel_size[0], layer.stride[0]) for layer in layers] == [(1, 1), *[(4, 2)] * 4]
    assert [block[0].out_channels for block in D.blocks] == [64, 128, 256, 512]


@pytest.mark.parametrize("norm", ["batch", "layer", "none"])
def test_clips_have_a_class(norm: str) -> None:
    G, D = networks(norm=norm)
    for network in (G, D):
        network.eval()
    z, label = torch.randn(3, G.z_dim), torch.tensor([0, 1, 2])
    with torch.no_grad():
        made = G(z, label)
        assert made.shape == (3, 4, 1, 8, 8)
        assert made.abs().max() <= 1
        assert (G(z, label.roll(1)) - made).abs().max() > 0
        logits = D(made, label)
        assert logits.shape == (3,)
        assert (D(made, label.roll(1)) - logits).abs().max() > 0
        assert (G(z, label, truncation=0.0) - G(torch.zeros_like(z), label)).abs().max() == 0


@pytest.mark.parametrize("frames", [2, 3, 5, 6, 12, 16])
def test_clips_of_any_length_have_frames_of_their_own(frames: int) -> None:
    G, _ = networks(ArraySpec((frames, 1, 8, 8)))
    with torch.no_grad():
        codes = G.temporal(torch.randn(2, G.z_dim), torch.full((2,), -1))
        film = G(torch.randn(2, G.z_dim), torch.full((2,), -1))
    assert codes.shape == (2, frames, 4)
    assert codes.abs().max() <= 1
    assert film.shape == (2, frames, 1, 8, 8)
    assert len({tuple(code.tolist()) for code in codes[0]}) == frames


def test_a_frame_is_made_of_the_latent_of_the_clip_and_its_own() -> None:
    G, _ = networks()
    z, label = torch.randn(2, G.z_dim), torch.tensor([0, 1])
    with torch.no_grad():
        codes = G.temporal(z, label)
        for number in range(4):
            alone = G.frame(torch.cat([z, codes[:, number]], dim=1), torch.zeros_like(label))
            torch.testing.assert_close(G(z, label)[:, number], alone)


def test_standing_statistics_are_those_of_the_latents() -> None:
    G, _ = networks(norm="batch")
    z, label = torch.randn(64, G.z_dim), torch.arange(64) % 3
    G.train()
    with torch.no_grad():
        expected = G.temporal(z, label)
        G.eval()
        before = (G.temporal(z, label) - expected).abs().max()
        G.calibrate(z, label)
        after = (G.temporal(z, label) - expected).abs().max()
    assert after < 0.05 < before


def test_the_slope_of_d_has_derivatives() -> None:
    _, D = networks()
    x, label = torch.randn(3, *CLIP.shape, requires_grad=True), torch.tensor([0, 1, 2])
    weight = D.linear.weight

    def slope() -> torch.Tensor:
        (found,) = torch.autograd.grad(D(x, label).sum(), x, create_graph=True)
        return found.square().sum()

    (exact,) = torch.autograd.grad(slope(), weight)
    along, step = exact / exact.norm(), 1e-2  # in the last layer's weight the squared slope is a parabola
    values = []
    for sign in (1, -2):
        with torch.no_grad():
            weight.add_(sign * step * along)
        values.append(float(slope().detach()))
    assert float(exact.norm()) == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-3)


def test_the_generator_learns_which_way_a_bar_moves() -> None:
    films, label = moving_bars(), torch.arange(8) % 2
    torch.manual_seed(0)
    base = DCGANGeneratorConfig(z_dim=16, width=8, norm="layer")
    config = TGANGeneratorConfig(base=base, frame_dim=8, width=32, norm="layer")
    G = config.build(ArraySpec(tuple(films.shape[1:]), classes=2))
    optimizer = torch.optim.Adam(G.parameters(), lr=1e-2)
    for _ in range(80):
        loss = (G(torch.randn(8, G.z_dim), label) - films[label]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.5  # 0.75 without a class


@pytest.mark.parametrize(
    ("role", "shape", "words"),
    [
        ("generator", (1, 64), r"tgan works on clips \[T, C, H, W\], but the field has the shape \[1, 64\]"),
        ("discriminator", (1, 64), r"tgan works on clips \[T, C, H, W\], but the field has the shape \[1, 64\]"),
        ("generator", (1, 3, 8, 8), "tgan works on clips of 2 frames or more"),
        ("generator", (4, 3, 9, 8), "9x8 cannot be halved so often"),
        ("discriminator", (4, 3, 8, 9), "8x9 cannot be halved so often"),
    ],
)
def test_what_does_not_fit_is_named(role: str, shape: tuple[int, ...], words: str) -> None:
    config: Any = {
        "generator": TGANGeneratorConfig(base=DCGANGeneratorConfig(z_dim=200)),
        "discriminator": TGANDiscriminatorConfig(),
    }[role]
    with pytest.raises(ValueError, match=rf"^{role}: .*{words}"):
        NetworkSpec(role, role, config, (ArraySpec(shape),)).build()


def test_a_clip_without_a_latent_is_refused() -> None:
    config = TGANGeneratorConfig(base=DCGANGeneratorConfig(z_dim=100))
    with pytest.raises(ValueError, match=r"base.z_dim 100 contains .* frame_dim 100: use base.z_dim 101 or more"):
        config.build(CLIP)
