"""3D-GAN: sizes, conditions, derivatives, what it learns, and what it refuses."""

import pytest
import torch
import torch.nn.functional as F

from bigtrain.models import ArraySpec
from bigtrain.models.gan3d import GAN3DDiscriminatorConfig, GAN3DGeneratorConfig
from bigtrain.models.network_spec import NetworkSpec


def test_published_sizes() -> None:
    """Wu et al. 2016, appendix: 200 numbers to 64x64x64 through 512, 256, 128, 64 channels."""
    with torch.device("meta"):
        G = GAN3DGeneratorConfig().build(ArraySpec((1, 64, 64, 64)))
        D = GAN3DDiscriminatorConfig().build(ArraySpec((1, 64, 64, 64)))
    assert [block[0].in_channels for block in G.blocks] + [G.to_volume.in_channels] == [512, 256, 128, 64]
    assert [block[0].out_channels for block in D.blocks] == [64, 128, 256, 512]
    assert G.z_dim == 200
    assert G.bottom == (4, 4, 4)


@pytest.mark.parametrize("norm", ["layer", "none"])
def test_volumes_have_a_class(norm: str) -> None:
    volume = ArraySpec((2, 8, 16, 12), classes=3)
    G = GAN3DGeneratorConfig(width=4, z_dim=8, norm=norm).build(volume)  # type: ignore[arg-type]
    D = GAN3DDiscriminatorConfig(width=4, norm=norm).build(volume)  # type: ignore[arg-type]
    z, label = torch.randn(3, 8), torch.tensor([0, 1, 2])
    made = G(z, label)
    assert made.shape == (3, 2, 8, 16, 12)
    assert made.abs().max() <= 1
    assert (G(z, label.roll(1)) - made).abs().max() > 0
    assert (D(made, label.roll(1)) - D(made, label)).abs().max() > 0
    assert (G(z, label, truncation=0.0) - G(torch.zeros_like(z), label)).abs().max() == 0


def test_the_slope_of_d_has_derivatives() -> None:
    torch.manual_seed(0)
    D = GAN3DDiscriminatorConfig(width=4).build(ArraySpec((1, 8, 8, 8)))
    x, label = torch.randn(4, 1, 8, 8, 8, requires_grad=True), torch.full((4,), -1)
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


def test_it_learns_where_a_volume_is_filled() -> None:
    torch.manual_seed(0)
    volume = ArraySpec((1, 8, 8, 8), classes=2)
    G = GAN3DGeneratorConfig(width=4, z_dim=4).build(volume)
    D = GAN3DDiscriminatorConfig(width=4).build(volume)
    shapes = -torch.ones(2, 1, 8, 8, 8)
    shapes[0, :, :4], shapes[1, :, :, :, 4:] = 1, 1  # one filled below, one at the right
    of_G, of_D = (torch.optim.Adam(network.parameters(), lr=3e-3, betas=(0.0, 0.9)) for network in (G, D))
    label = torch.arange(8) % 2
    for _ in range(60):
        z = torch.randn(8, 4)
        loss = F.softplus(-D(G(z, label), label)).mean()
        of_G.zero_grad()
        loss.backward()
        of_G.step()
        loss = (F.softplus(D(G(z, label).detach(), label)) + F.softplus(-D(shapes[label], label))).mean()
        of_D.zero_grad()
        loss.backward()
        of_D.step()
    with torch.no_grad():
        made = G(torch.randn(8, 4), label)
    distances = torch.stack([(made - shape).abs().mean((1, 2, 3, 4)) for shape in shapes], dim=1)
    assert distances.argmin(1).tolist() == label.tolist()
    assert distances.min(1).values.max() < 0.5  # of a largest possible 2; another shape is 1 away


@pytest.mark.parametrize(
    ("shape", "words"),
    [((1, 64), r"works on volumes \[C, D, H, W\]"), ((1, 8, 9, 8), "8x9x8 cannot be halved so often: use 32x32x32")],
)
def test_what_does_not_fit_is_named(shape: tuple[int, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        NetworkSpec("generator", "generator", GAN3DGeneratorConfig(), (ArraySpec(shape),)).build()
