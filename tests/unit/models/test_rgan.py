"""r-GAN: the published sizes, the order of the points, conditions, derivatives, and what it refuses."""

import pytest
import torch
import torch.nn.functional as F

from bigtrain.models import ArraySpec
from bigtrain.models.network_spec import NetworkSpec
from bigtrain.models.rgan import RGANDiscriminatorConfig, RGANGeneratorConfig


def test_published_sizes() -> None:
    """Achlioptas et al. 2018, appendix: 128 numbers to 2,048 points, and back to a logit."""
    with torch.device("meta"):
        G = RGANGeneratorConfig().build(ArraySpec((2048, 3)))
        D = RGANDiscriminatorConfig().build(ArraySpec((2048, 3)))
    of_G = [tuple(weight.shape) for name, weight in G.named_parameters() if name.endswith("weight")]
    of_D = [tuple(weight.shape) for name, weight in D.named_parameters() if name.endswith("weight")]
    assert of_G == [(64, 128), (128, 64), (512, 128), (1024, 512), (6144, 1024)]
    assert of_D == [(64, 3), (128, 64), (256, 128), (256, 256), (512, 256), (128, 512), (64, 128), (1, 64)]


def test_clouds_have_a_class() -> None:
    torch.manual_seed(0)
    cloud = ArraySpec((10, 3), classes=3)
    G = RGANGeneratorConfig(z_dim=8, hidden=(16,)).build(cloud)
    D = RGANDiscriminatorConfig(widths=(8, 16), hidden=(8,)).build(cloud)
    z, label = torch.randn(3, 8), torch.tensor([0, 1, 2])
    made = G(z, label)
    assert made.shape == (3, 10, 3)
    assert (G(z, label.roll(1)) - made).abs().max() > 0
    assert (D(made, label.roll(1)) - D(made, label)).abs().max() > 0
    assert (G(z, label, truncation=0.0) - G(torch.zeros_like(z), label)).abs().max() == 0
    wide = RGANGeneratorConfig(z_dim=8, hidden=(16,), z_std=1.0).build(cloud)
    wide.load_state_dict(G.state_dict())
    assert torch.allclose(wide(0.2 * z, label), made, atol=1e-6)


def test_the_order_and_the_number_of_points_do_not_matter_to_d() -> None:
    torch.manual_seed(0)
    D = RGANDiscriminatorConfig(widths=(8, 16), hidden=(8,)).build(ArraySpec((12, 3)))
    cloud, label = torch.randn(4, 12, 3, requires_grad=True), torch.full((4,), -1)
    order = torch.randperm(12)
    logits = D(cloud, label)
    assert (D(cloud[:, order], label) - logits).abs().max() < 1e-6
    (slope,) = torch.autograd.grad(logits.sum(), cloud)
    moved = cloud.detach()[:, order].requires_grad_()
    (slope_moved,) = torch.autograd.grad(D(moved, label).sum(), moved)
    assert (slope[:, order] - slope_moved).abs().max() < 1e-6
    assert D(cloud[:, :7], label).shape == (4,)


def test_the_slope_of_d_has_derivatives() -> None:
    torch.manual_seed(0)
    D = RGANDiscriminatorConfig(widths=(8, 16), hidden=(8,)).build(ArraySpec((12, 3)))
    x, label = torch.randn(4, 12, 3, requires_grad=True), torch.full((4,), -1)
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


def test_it_learns_where_the_points_lie() -> None:
    torch.manual_seed(0)
    cloud = ArraySpec((16, 3), classes=2)
    G = RGANGeneratorConfig(z_dim=4, hidden=(32,)).build(cloud)
    D = RGANDiscriminatorConfig(widths=(16, 32), hidden=(16,)).build(cloud)
    places = torch.tensor([[0.8, 0.0, 0.0], [0.0, -0.8, 0.0]])  # a class above each of two places
    of_G, of_D = (torch.optim.Adam(network.parameters(), lr=3e-3, betas=(0.0, 0.9)) for network in (G, D))
    label = torch.arange(16) % 2
    for _ in range(100):
        real = places[label][:, None] + 0.05 * torch.randn(16, 16, 3)
        loss = F.softplus(-D(G(torch.randn(16, 4), label), label)).mean()
        of_G.zero_grad()
        loss.backward()
        of_G.step()
        fake = G(torch.randn(16, 4), label).detach()
        loss = (F.softplus(D(fake, label)) + F.softplus(-D(real, label))).mean()
        of_D.zero_grad()
        loss.backward()
        of_D.step()
    with torch.no_grad():
        middles = G(torch.randn(16, 4), label).mean(1)
    assert torch.cdist(middles, places).argmin(1).tolist() == label.tolist()


@pytest.mark.parametrize("config", [RGANGeneratorConfig(), RGANDiscriminatorConfig()])
@pytest.mark.parametrize("shape", [(1, 2048, 3), (2048, 2)])
def test_what_does_not_fit_is_named(config: RGANGeneratorConfig, shape: tuple[int, ...]) -> None:
    role = "generator" if isinstance(config, RGANGeneratorConfig) else "discriminator"
    with pytest.raises(ValueError, match=rf"^{role}: rgan works on point clouds \[N, 3\], but the field has the shape"):
        NetworkSpec(role, role, config, (ArraySpec(shape),)).build()
