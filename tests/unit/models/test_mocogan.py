"""MoCoGAN: sizes, content and motion, drawn frames, conditions, derivatives, what it learns, and what it refuses."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from bigtrain.core.rng import Draws
from bigtrain.models import ArraySpec, DCGANDiscriminatorConfig, DCGANGeneratorConfig
from bigtrain.models.layers.drawn_frames import append_drawn_frames, split_drawn_frames
from bigtrain.models.mocogan import MoCoGANDiscriminatorConfig, MoCoGANGeneratorConfig, MotionNetwork
from bigtrain.models.network_spec import NetworkSpec
from bigtrain.tasks.terms.base import DiscriminatorLossContext

CLIP = ArraySpec((4, 1, 8, 8), classes=3)


def networks(clip: ArraySpec = CLIP, *, norm: Any = "layer") -> tuple[Any, Any]:
    torch.manual_seed(0)
    G = MoCoGANGeneratorConfig(base=DCGANGeneratorConfig(z_dim=6, width=4, norm=norm), motion_dim=4, noise_dim=3).build(
        clip
    )
    D = MoCoGANDiscriminatorConfig(base=DCGANDiscriminatorConfig(width=4, norm=norm), width=4, norm=norm).build(clip)
    return G, D


def test_published_sizes() -> None:
    """Tulyakov et al. 2018, section 4: 50 numbers of content and 10 of motion, clips of 16 frames of 64x64."""
    clip = ArraySpec((16, 3, 64, 64))
    with torch.device("meta"):
        G = MoCoGANGeneratorConfig(base=DCGANGeneratorConfig(z_dim=60, width=64)).build(clip)
        D = MoCoGANDiscriminatorConfig(base=DCGANDiscriminatorConfig(width=64)).build(clip)
    assert (G.content_dim, G.motion.state, G.z_dim) == (50, 10, 50 + 16 * 10)
    assert [block[0].out_channels for block in D.clip.blocks] == [64, 128, 256, 512]
    assert [block[0].stride[0] for block in D.clip.blocks] == [2, 2, 2, 1]


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
        assert logits.shape == (3, 2)
        changed = (D(made, label.roll(1)) - logits).abs().amax(0)
        assert changed[0] == 0, "the frame alone does not say which motion it is of"
        assert changed[1] > 0
        assert (G(z, label, truncation=0.0) - G(torch.zeros_like(z), label)).abs().max() == 0


def test_motion_codes_are_those_of_pytorchs_gated_recurrent_unit() -> None:
    torch.manual_seed(0)
    ours, theirs = MotionNetwork(3, 5), torch.nn.GRU(3, 5, batch_first=True)
    names = {"of_input.weight": "weight_ih_l0", "of_state.weight": "weight_hh_l0"}
    names |= {"of_input.bias": "bias_ih_l0", "of_state.bias": "bias_hh_l0"}
    ours.load_state_dict({name: theirs.state_dict()[theirs_name] for name, theirs_name in names.items()})
    x = torch.randn(2, 4, 3)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x)[0])


def test_noise_moves_the_frames_from_its_own_on_and_content_all_of_them() -> None:
    G, _ = networks()
    z, label = torch.randn(1, G.z_dim), torch.tensor([0])
    later, other = z.clone(), z.clone()
    later[:, G.content_dim + 2 * G.noise_dim :] += 1  # of the frames from the third on
    other[:, : G.content_dim] += 1
    with torch.no_grad():
        frame, moved, changed = (G(latent, label)[0] for latent in (z, later, other))
    assert [bool((one - two).abs().max() > 0) for one, two in zip(frame, moved, strict=True)] == [
        False,
        False,
        True,
        True,
    ]
    assert (frame - changed).flatten(1).abs().amax(1).min() > 0


def test_frames_are_drawn_by_the_position_of_the_sample() -> None:
    clip = torch.arange(5.0)[None, :, None, None, None].expand(40, 5, 1, 2, 2)
    draws = Draws(3, torch.arange(40), "real")
    seen = append_drawn_frames(clip, draws, 2)
    drawn = seen[:, 5:, 0, 0, 0]
    assert (drawn[:, 0] < drawn[:, 1]).all(), "in the order of time, none of them twice"
    assert set(drawn.flatten().tolist()) == {0, 1, 2, 3, 4}
    rows = torch.tensor([30, 7])
    assert append_drawn_frames(clip[rows], draws[rows], 2).equal(seen[rows])
    whole, chosen = split_drawn_frames(seen, 5, 2)
    assert whole.equal(clip)
    assert chosen.equal(seen[:, 5:])
    assert split_drawn_frames(clip, 5, 2)[1][0, :, 0, 0, 0].tolist() == [1, 3]
    assert split_drawn_frames(clip, 5, 1)[1][0, :, 0, 0, 0].tolist() == [2]


def test_the_first_logit_is_that_of_the_drawn_frame() -> None:
    _, D = networks()
    clip, label = torch.randn(4, *CLIP.shape), torch.tensor([0, 1, 2, 0])
    draws = Draws(0, torch.arange(4), "real")
    seen = D.draw_view(clip, draws)
    assert seen.shape == (4, 5, 1, 8, 8)
    with torch.no_grad():
        logits, other = D(seen, label), D(torch.cat([clip.flip(1), seen[:, 4:]], dim=1), label)
        alone = D.frame(seen[:, 4], torch.zeros_like(label))
    assert logits[:, 0].equal(alone)
    assert logits[:, 0].equal(other[:, 0])
    assert (logits[:, 1] - other[:, 1]).abs().max() > 0
    context = DiscriminatorLossContext(None, D, {}, label, label, draws, clip, lambda: clip, lambda x, _: x, None)  # type: ignore[arg-type]
    assert context.mean(logits) == logits.mean(0).sum(), "the losses of the two are added"


def test_the_slope_of_d_has_derivatives() -> None:
    _, D = networks()
    x, label = torch.randn(3, *CLIP.shape, requires_grad=True), torch.tensor([0, 1, 2])
    weight = D.clip.linear.weight

    def slope() -> torch.Tensor:
        seen = D.draw_view(x, Draws(0, torch.arange(3), "real"))
        (found,) = torch.autograd.grad(D(seen, label).sum(), x, create_graph=True)
        return found.square().sum()

    (exact,) = torch.autograd.grad(slope(), weight)
    along, step = exact / exact.norm(), 1e-2  # in the last layer's weight the squared slope is a parabola
    values = []
    for sign in (1, -2):
        with torch.no_grad():
            weight.add_(sign * step * along)
        values.append(float(slope().detach()))
    assert float(exact.norm()) == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-3)


def moving_bars() -> torch.Tensor:
    """Return two clips with the same frames in opposite orders: a bar moves to the right, and to the left."""
    films = -torch.ones(2, 4, 1, 8, 8)
    for number in range(4):
        films[0, number, :, :, 2 * number : 2 * number + 2] = 1
        films[1, 3 - number, :, :, 2 * number : 2 * number + 2] = 1
    return films


def test_only_the_discriminator_of_clips_learns_which_way_a_bar_moves() -> None:
    films, label = moving_bars(), torch.arange(8) % 2
    _, D = networks(ArraySpec(tuple(films.shape[1:])), norm="none")
    optimizer = torch.optim.Adam(D.parameters(), lr=3e-3)
    for step in range(40):
        logits = D(D.draw_view(films[label], Draws(0, torch.arange(8) + 8 * step)), torch.full((8,), -1))
        losses = F.binary_cross_entropy_with_logits(logits, label[:, None].expand(-1, 2).float(), reduction="none")
        optimizer.zero_grad()
        losses.mean().backward()
        optimizer.step()
    of_frame, of_clip = losses.detach().mean(0).tolist()
    assert of_frame > 0.6, "ln 2 is chance"
    assert of_clip < 0.1


def test_the_generator_learns_which_way_a_bar_moves() -> None:
    films, label = moving_bars(), torch.arange(8) % 2
    torch.manual_seed(0)
    config = MoCoGANGeneratorConfig(base=DCGANGeneratorConfig(z_dim=10, width=8, norm="layer"), motion_dim=8)
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
        ("generator", (1, 64), r"mocogan works on clips \[T, C, H, W\], but the field has the shape \[1, 64\]"),
        ("generator", (1, 3, 8, 8), "mocogan works on clips of 2 frames or more"),
        ("generator", (4, 3, 9, 8), "9x8 cannot be halved so often"),
        ("discriminator", (4, 3, 8, 9), "8x9 cannot be halved so often"),
    ],
)
def test_what_does_not_fit_is_named(role: str, shape: tuple[int, ...], words: str) -> None:
    frames = {"generator": DCGANGeneratorConfig(), "discriminator": DCGANDiscriminatorConfig()}
    configs: Any = {"generator": MoCoGANGeneratorConfig, "discriminator": MoCoGANDiscriminatorConfig}
    with pytest.raises(ValueError, match=rf"^{role}: .*{words}"):
        NetworkSpec(role, role, configs[role](base=frames[role]), (ArraySpec(shape),)).build()


def test_a_content_of_no_length_is_refused() -> None:
    config = MoCoGANGeneratorConfig(base=DCGANGeneratorConfig(z_dim=10), motion_dim=10)
    with pytest.raises(ValueError, match=r"base.z_dim 10 contains .* motion_dim 10: use base.z_dim 11 or more"):
        config.build(CLIP)
