"""Frame prediction with DVD-GAN's parts: what is given matters, what is judged, derived frames, and what is refused."""

from typing import Any

import pytest
import torch

from bigtrain.augment.derived.clips import FramesConfig
from bigtrain.core.rng import Draws
from bigtrain.models import ArraySpec
from bigtrain.models.dvdgan_fp import DVDGANFPConfig, DVDGANFPDiscriminatorConfig
from bigtrain.models.network_spec import NetworkSpec
from data_pipelines.fields.spec import FieldSpec

GIVEN, NEXT = ArraySpec((2, 3, 16, 16)), ArraySpec((3, 3, 16, 16))
SMALL_G: dict[str, Any] = {"width": 2, "multiples": (2, 2, 1), "z_dim": 6, "encoder_width": 2}
SMALL_D: dict[str, Any] = {"width": 2, "multiples": (1, 2), "temporal_multiples": (1, 2, 2), "frames": 2}


def networks() -> tuple[Any, Any]:
    torch.manual_seed(0)
    G = DVDGANFPConfig(**SMALL_G).build(GIVEN, NEXT)
    D = DVDGANFPDiscriminatorConfig(**SMALL_D).build(NEXT, GIVEN)
    return G.eval(), D.eval()


@torch.no_grad()
def test_predicted_frames_depend_on_each_given_one_and_on_the_latent() -> None:
    G, _ = networks()
    given, draws = torch.randn(2, *GIVEN.shape), Draws(0, torch.arange(2), "G")
    made = G(given, draws)
    assert made.shape == (2, 3, 3, 16, 16)
    assert made.abs().max() <= 1
    for number in range(2):
        other = given.clone()
        other[:, number] += 1
        assert (G(other, draws) - made).abs().amax((0, 2, 3, 4)).min() > 0
    assert (G(given, draws.of("others")) - made).abs().max() > 0
    assert G(given).equal(G(given)), "without draws the latent is zero"
    assert (made[:, 1:] - made[:, :-1]).abs().amax((0, 2, 3, 4)).min() > 0, "the frames differ"


@torch.no_grad()
def test_only_the_temporal_discriminator_sees_the_given_frames() -> None:
    _, D = networks()
    given, clip = torch.randn(2, *GIVEN.shape), torch.randn(2, *NEXT.shape)
    seen = D.draw_view(clip, Draws(0, torch.arange(2), "real"))
    assert seen.shape == (2, 5, 3, 16, 16)
    logits, other = D(seen, given), D(seen, given + 1)
    assert logits.shape == (2, 2)
    assert logits[:, 0].equal(other[:, 0])
    assert (logits[:, 1] - other[:, 1]).abs().min() > 0
    alone = DVDGANFPDiscriminatorConfig(**SMALL_D).build(NEXT)
    assert alone(clip).shape == (2, 2)


def test_all_weights_have_gradients() -> None:
    G, D = (network.train() for network in networks())
    given = torch.randn(2, *GIVEN.shape)
    draws = Draws(0, torch.arange(2), "G")
    D(D.draw_view(G(given, draws), draws), given).sum().backward()
    without = [name for network in (G, D) for name, weight in network.named_parameters() if weight.grad is None]
    assert without == []


def test_derived_frames_are_those_of_the_video() -> None:
    video = FieldSpec("video", (5, 3, 16, 16), "uint8", rate=8, codec="npy")
    field = torch.arange(10.0).reshape(2, 5, 1, 1, 1).expand(2, 5, 3, 16, 16)
    frames = FramesConfig(kind="frames", first=2, count=3)
    assert frames.spec(video) == FieldSpec("video", (3, 3, 16, 16), "uint8", rate=8, codec="npy")
    assert frames.compute(field, Draws(0, torch.arange(2)))[:, :, 0, 0, 0].tolist() == [[2, 3, 4], [7, 8, 9]]
    with pytest.raises(ValueError, match="first 2 and count 4: the videos have 5 frames"):
        FramesConfig(kind="frames", first=2, count=4).spec(video)
    with pytest.raises(ValueError, match="needs videos, and its source has the kind 'image'"):
        FramesConfig(kind="frames", count=1).spec(FieldSpec("image", (3, 8, 8), "uint8"))


@pytest.mark.parametrize(
    ("role", "data", "words"),
    [
        ("translator", (ArraySpec((2, 3, 8, 8)), NEXT), r"not \[3, 3, 16, 16\] from \[2, 3, 8, 8\]"),
        ("translator", (ArraySpec((1, 64)), NEXT), r"not \[3, 3, 16, 16\] from \[1, 64\]"),
        ("patch_discriminator", (ArraySpec((1, 3, 16, 16)), GIVEN), "frames 2 are more than the 1 that are predicted"),
    ],
)
def test_what_does_not_fit_is_named(role: str, data: tuple[ArraySpec, ...], words: str) -> None:
    config = DVDGANFPConfig(**SMALL_G) if role == "translator" else DVDGANFPDiscriminatorConfig(**SMALL_D)
    with pytest.raises(ValueError, match=rf"^key: dvdgan_fp.*{words}"):
        NetworkSpec("key", role, config, data).build()


def test_other_frames_than_those_it_was_built_for_are_refused() -> None:
    G, _ = networks()
    with pytest.raises(ValueError, match=r"dvdgan_fp was built for \[2, 3, 16, 16\], not for \[3, 3, 16, 16\]"):
        G(torch.zeros(1, *NEXT.shape))
