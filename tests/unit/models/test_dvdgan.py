"""DVD-GAN: sizes, the recurrent unit, drawn frames, half resolution, conditions, derivatives, and what it refuses."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from bigtrain.core.rng import Draws
from bigtrain.models import ArraySpec
from bigtrain.models.dvdgan import ConvGRU, DVDGANDiscriminatorConfig, DVDGANGeneratorConfig
from bigtrain.models.layers.attention import AxisAttention, SeparableAttention
from bigtrain.models.layers.spectral import WeightStyle
from bigtrain.models.network_spec import NetworkSpec
from tests.unit.models.test_mocogan import moving_bars

CLIP = ArraySpec((4, 3, 16, 16), classes=3)
SMALL_G: dict[str, Any] = {"width": 2, "multiples": (2, 2, 1), "z_dim": 6, "shared_dim": 4}
SMALL_D: dict[str, Any] = {"width": 2, "multiples": (1, 2), "temporal_multiples": (1, 2, 2), "frames": 2}


def networks(clip: ArraySpec = CLIP) -> tuple[Any, Any]:
    torch.manual_seed(0)
    return DVDGANGeneratorConfig(**SMALL_G).build(clip), DVDGANDiscriminatorConfig(**SMALL_D).build(clip)


def test_published_sizes() -> None:
    """Clark et al. 2019, section 4 and appendix: 120 numbers and 120 of the class, 8 frames for the spatial D."""
    clip = ArraySpec((12, 3, 64, 64), classes=600)
    with torch.device("meta"):
        G = DVDGANGeneratorConfig().build(clip)
        D = DVDGANDiscriminatorConfig().build(clip)
    assert G.linear.weight.shape == (8 * 128 * 16, 240)
    assert [unit.channels for unit in G.decoder.recurrent] == [1024, 1024, 1024, 512]
    assert (G.bottom, D.count) == ((4, 4), 8)
    assert [block.conv1.weight.ndim for block in D.temporal.blocks] == [5, 5, 4, 4]


def test_clips_have_a_class() -> None:
    G, D = networks()
    for network in (G, D):
        network.eval()
    z, label = torch.randn(3, 6), torch.tensor([0, 1, 2])
    with torch.no_grad():
        made = G(z, label)
        assert made.shape == (3, 4, 3, 16, 16)
        assert made.abs().max() <= 1
        assert (made[:, 1:] - made[:, :-1]).abs().amax((0, 2, 3, 4)).min() > 0, "the frames differ"
        assert (G(z, label.roll(1)) - made).abs().max() > 0
        logits = D(made, label)
        assert logits.shape == (3, 2)
        assert (D(made, label.roll(1)) - logits).abs().amax(0).min() > 0
        assert (G(z, label, truncation=0.0) - G(torch.zeros_like(z), label)).abs().max() == 0


def test_without_classes_and_with_other_sides() -> None:
    G, D = networks(ArraySpec((3, 1, 16, 24)))
    made = G(torch.randn(2, 6), torch.full((2,), -1))
    assert made.shape == (2, 3, 1, 16, 24)
    assert D(made, torch.full((2,), -1)).shape == (2, 2)


def test_the_recurrent_unit_is_that_of_the_equations() -> None:
    torch.manual_seed(0)
    unit = ConvGRU(3, WeightStyle("normal", spectral=False))
    for weight in unit.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    x, state = torch.randn(2, 3, 3, 5, 5), torch.zeros(2, 3, 5, 5)
    with torch.no_grad():
        found = unit(x).reshape(2, 3, 3, 5, 5)
        for number, one in enumerate(x.unbind(1)):
            gates = F.conv2d(torch.cat([one, state], 1), unit.gates.weight, unit.gates.bias, padding=1)
            reset, update = torch.sigmoid(gates).chunk(2, dim=1)
            both = torch.cat([one, reset * state], 1)
            new = F.relu(F.conv2d(both, unit.candidate.weight, unit.candidate.bias, padding=1))
            state = update * state + (1 - update) * new
            torch.testing.assert_close(found[:, number], state)


def test_the_spatial_discriminator_adds_the_scores_of_drawn_frames() -> None:
    _, D = networks()
    D.eval()
    clip, label = torch.randn(3, *CLIP.shape), torch.tensor([0, 1, 2])
    seen = D.draw_view(clip, Draws(0, torch.arange(3), "real"))
    assert seen.shape == (3, 6, 3, 16, 16)
    with torch.no_grad():
        logits = D(seen, label)
        bias = D.spatial.linear.bias
        alone = sum(D.spatial(seen[:, place], label) - bias for place in (4, 5)) + bias
        torch.testing.assert_close(logits[:, 0], alone)
        reversed_in_time = D(torch.cat([clip.flip(1), seen[:, 4:]], dim=1), label)
        assert logits[:, 0].equal(reversed_in_time[:, 0])
        assert (logits[:, 1] - reversed_in_time[:, 1]).abs().max() > 0


def test_the_temporal_discriminator_sees_half_of_the_resolution() -> None:
    _, D = networks()
    D.eval()
    clip, label = torch.randn(2, *CLIP.shape), torch.tensor([0, 1])
    fine = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(8, 8)  # of mean 0 in each square of 2x2 pixels
    with torch.no_grad():
        change = (D(clip + fine, label) - D(clip, label)).abs()
    assert change[:, 1].max() < 1e-4
    assert change[:, 0].min() > 1e-3


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_attention_along_an_axis_is_full_attention_with_a_mask(axis: int) -> None:
    torch.manual_seed(0)
    layer = AxisAttention(8, axis, WeightStyle("normal", spectral=False)).double()
    for weight in layer.parameters():
        torch.nn.init.normal_(weight, std=0.5)
    clips, frames, sides = 2, 3, (4, 5)
    x = torch.randn(clips * frames, 8, *sides, dtype=torch.float64)
    places = torch.cartesian_prod(*(torch.arange(length) for length in (frames, *sides)))
    others = [other for other in range(3) if other != axis]
    on_a_line = (places[:, None, others] == places[None, :, others]).all(-1)
    with torch.no_grad():
        query, key, value = (
            part(x).unflatten(0, (clips, frames)).movedim(2, 4).flatten(1, 3)
            for part in (layer.theta, layer.phi, layer.g)
        )
        weights = (query @ key.mT).masked_fill(~on_a_line, -torch.inf).softmax(-1)
        mixed = (weights @ value).unflatten(1, (frames, *sides)).movedim(4, 2).flatten(0, 1)
        torch.testing.assert_close(layer(x, frames), layer.gamma * layer.o(mixed) + x)


def test_separable_attention_takes_part_in_both_networks() -> None:
    torch.manual_seed(0)
    G = DVDGANGeneratorConfig(**{**SMALL_G, "width": 8}, attention=(8,)).build(CLIP)
    D = DVDGANDiscriminatorConfig(**{**SMALL_D, "width": 8}, attention=(8,), temporal_attention=(4, 2)).build(CLIP)
    found = [module for module in (*G.modules(), *D.modules()) if isinstance(module, SeparableAttention)]
    assert len(found) == 4  # two blocks of D have 2 pixels
    assert set(G.decoder.attention.values()) <= set(G.stages())
    assert set(D.temporal.attention.values()) <= set(D.stages())
    made, label = G(torch.randn(2, 6), torch.tensor([0, 1])), torch.tensor([0, 1])
    logits = D(made, label)
    for layer in found:  # it begins as the identity
        for axis in layer.axes:
            torch.nn.init.ones_(axis.gamma)
    changed = G(torch.randn(2, 6), label)
    assert changed.shape == made.shape
    assert (D(made, label) - logits)[:, 1].abs().min() > 0
    torch.autograd.grad(changed[:, 0].sum() + D(changed, label).sum(), [axis.gamma for axis in found[0].axes])


def test_both_networks_learn_which_way_a_bar_moves() -> None:
    films = F.interpolate(moving_bars().flatten(0, 1), scale_factor=2.0).unflatten(0, (2, 4))
    label, clip = torch.arange(8) % 2, ArraySpec(tuple(films.shape[1:]), classes=2)
    torch.manual_seed(0)
    G = DVDGANGeneratorConfig(**{**SMALL_G, "width": 4}).build(clip)
    D = DVDGANDiscriminatorConfig(**{**SMALL_D, "width": 4}).build(clip)
    of_G, of_D = (torch.optim.Adam(network.parameters(), lr=1e-2) for network in (G, D))
    for _ in range(60):
        loss_G = (G(torch.randn(8, 6), label) - films[label]).square().mean()
        of_G.zero_grad()
        loss_G.backward()
        of_G.step()
    for step in range(25):
        draws = Draws(0, torch.arange(8) + 8 * step)
        right, left = (D(D.draw_view(films[way], draws), label) for way in (label, 1 - label))
        loss_D = F.softplus(-right).mean() + F.softplus(left).mean()
        of_D.zero_grad()
        loss_D.backward()
        of_D.step()
    assert loss_G < 0.65  # 0.75 without a class
    assert loss_D < 1.2  # 1.39 of a guess: only the order of the frames, and the class, tell the two apart


def test_the_slope_of_d_has_derivatives() -> None:
    _, D = networks()
    D.eval()
    x, label = torch.randn(3, *CLIP.shape, requires_grad=True), torch.tensor([0, 1, 2])
    weight = D.temporal.embed.weight  # its own singular value bends the parabola a little

    def slope() -> torch.Tensor:
        seen = D.draw_view(x, Draws(0, torch.arange(3), "real"))
        (found,) = torch.autograd.grad(D(seen, label).sum(), x, create_graph=True)
        return found.square().sum()

    (exact,) = torch.autograd.grad(slope(), weight)
    along, step = exact / exact.norm(), 1e-2
    values = []
    for sign in (1, -2):
        with torch.no_grad():
            weight.add_(sign * step * along)
        values.append(float(slope().detach()))
    assert float(exact.norm()) == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-2)


@pytest.mark.parametrize(
    ("role", "options", "shape", "words"),
    [
        ("generator", {}, (1, 64), r"dvdgan works on clips \[T, C, H, W\], and the field has the shape \[1, 64\]"),
        (
            "generator",
            {},
            (4, 3, 24, 24),
            "dvdgan knows generator.multiples of frames of 64, 128, 256 pixels, not of 24",
        ),
        ("generator", SMALL_G, (4, 3, 18, 18), "generator.multiples: 3 values do not double 4 pixels to 18x18 pixels"),
        ("discriminator", SMALL_D, (1, 3, 16, 16), "dvdgan: frames 2 are more than the 1 of a clip"),
        ("discriminator", {**SMALL_D, "temporal_multiples": None}, (4, 3, 16, 16), "not of 8: give them"),
        (
            "generator",
            {**SMALL_G, "attention": (32,)},
            (4, 3, 16, 16),
            "attention 32: the features have sides of 8, 16",
        ),
        ("discriminator", {**SMALL_D, "attention": (3,)}, (4, 3, 16, 16), "discriminator.attention 3: .* sides of 8"),
        ("discriminator", {**SMALL_D, "temporal_attention": (8,)}, (4, 3, 16, 16), "_attention 8: .* sides of 4, 2"),
        ("discriminator", SMALL_D, (4, 3, 18, 18), "halves its images 2 times, which 9x9 does not allow"),
    ],
)
def test_what_does_not_fit_is_named(role: str, options: dict[str, Any], shape: tuple[int, ...], words: str) -> None:
    configs: Any = {"generator": DVDGANGeneratorConfig, "discriminator": DVDGANDiscriminatorConfig}
    with pytest.raises(ValueError, match=rf"^{role}: .*{words}"):
        NetworkSpec(role, role, configs[role](**options), (ArraySpec(shape),)).build()
