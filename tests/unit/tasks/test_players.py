"""What the players compute, against the same thing written out."""

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from bigtrain.core.rng import Draws
from bigtrain.engine.averages import Averages
from bigtrain.engine.step import compute_gradients
from bigtrain.models.stylegan2 import StyleGAN2GeneratorConfig
from bigtrain.objectives.adversarial import GAMES
from bigtrain.objectives.regularizers import path_lengths
from bigtrain.tasks.players import most_real
from bigtrain.tasks.sampling import mix_styles
from bigtrain.tasks.unrolled import unrolled
from tests.training import CPU, SMALL, STYLEGAN2, Training, distance

pytestmark = pytest.mark.usefixtures("alone")


def gradients(
    objective: dict[str, Any], *, micro_batch: int = 4, step: int = 0, group: int = 1
) -> dict[str, torch.Tensor]:
    """Return the gradients of one step's phases, by player and parameter; D compares `group` samples."""
    D = {**STYLEGAN2["discriminator"], "mbstd_group": group}
    training = Training({"objective": objective, "discriminator": D}, micro_batch=micro_batch)
    for _ in range(step):
        training.progress.advance()
    found = {}
    batch = training.batch(0)
    for phase in training.task.phases(training.progress):
        compute_gradients(training.task, training.strategies, phase, batch, micro_batch)
        for name, parameter in training.task.players[phase.player].named_parameters():
            found[f"{phase.player}.{name}"] = parameter.grad.clone()
    return found


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], tolerance: float = 1e-4) -> None:
    error = sum(float((one[name] - other[name]).double().square().sum()) for name in one)
    size = sum(float(value.double().square().sum()) for value in one.values())
    assert (error / size) ** 0.5 < tolerance


@pytest.mark.parametrize(
    "objective",
    [
        {"terms": {"r1": {"gamma": 1}, "r2": {"gamma": 1}}},
        {"adversarial": "wasserstein", "terms": {"wgan_gp": {}, "dragan": {}}},
        {"terms": {"bcr": {}, "zcr": {}, "lecam": {}, "auxiliary_classifier": {}}},
        {"adversarial": "relativistic_pairing", "style_mixing": 0.5, "instance_noise": 0.2},
        {"terms": {"path_length": {}}, "style_mixing": 0.9},
        {"terms": {"path_length": {"shrink": 3}}},  # a micro-batch of four has one or two of its samples
    ],
)
def test_micro_batches_add_up_to_the_batch(objective: dict[str, Any]) -> None:
    """For all that does not look at a micro-batch as a whole; the groups that D compares are the batch's own."""
    whole = gradients(objective, micro_batch=16, group=4)
    for micro_batch in (4, 8):
        assert_same(whole, gradients(objective, micro_batch=micro_batch, group=4))
    with pytest.raises(AssertionError):
        assert_same(whole, gradients(objective, micro_batch=2, group=4))


def test_a_lazy_term_weighs_on_average_what_it_weighs_in_every_update() -> None:
    eager = gradients({"terms": {"r1": {"gamma": 1}}})
    due = gradients({"terms": {"r1": {"gamma": 1, "interval": 4}}})
    without = gradients({"terms": {"r1": {"gamma": 1, "interval": 4}}}, step=1)
    mean = {name: (due[name] + 3 * without[name]) / 4 for name in due}
    assert_same(eager, mean)
    assert distance({"weights": eager, "start": without}, {"weights": due}) > 0.5


def test_r1_is_folded_into_ds_one_gradient() -> None:
    folded = gradients({"terms": {"r1": {"gamma": 3}}}, micro_batch=16)
    training = Training({}, micro_batch=16)
    D, batch = training.task.players["D"].D, training.batch(0)
    G, draws = training.task.players["G"].G, batch.draws.of("d_main")
    fake = G(draws.of("z").normal(G.z_dim), batch.label(), draws=draws).detach()
    real = batch["image"].clone().requires_grad_()
    loss = F.softplus(-D(real, batch.label())).mean() + F.softplus(D(fake, batch.label())).mean()
    (slope,) = torch.autograd.grad(D(real, batch.label()).sum(), real, create_graph=True)
    (loss + 1.5 * slope.square().sum((1, 2, 3)).mean()).backward()
    expected = {f"D.D.{name}": value.grad for name, value in D.named_parameters()}
    assert_same(expected, {name: folded[name] for name in expected})


def test_an_unrolled_step_is_a_step_of_descent() -> None:
    training = Training({})
    D, batch = training.task.players["D"].D, training.batch(0)
    game, real, fake = GAMES["non_saturating"], batch["image"], batch["image"].flip(0).clone().requires_grad_()
    later = copy.deepcopy(D)
    for _ in range(2):
        game.discriminator(later(real, batch.label()), later(fake.detach(), batch.label())).mean().backward()
        with torch.no_grad():
            for value in later.parameters():
                value -= 0.05 * value.grad
                value.grad = None
    D.requires_grad_(False)
    logits_of = unrolled(D, game, real, fake, batch.label(), steps=2, lr=0.05)
    torch.testing.assert_close(logits_of(fake), later(fake, batch.label()), rtol=1e-4, atol=1e-6)
    (through,) = torch.autograd.grad(logits_of(fake).sum(), fake)
    (direct,) = torch.autograd.grad(later(fake, batch.label()).sum(), fake)
    assert (through - direct).abs().max() > 1e-6, "the gradient goes through the steps too"
    assert all(value.grad is None for value in D.parameters())


def test_the_most_real_fakes_are_those_with_the_highest_logits() -> None:
    logits = torch.tensor([0.0, 3.0, -1.0, 2.0])
    assert sorted(most_real(logits, 0.5).tolist()) == [1, 3]
    assert most_real(logits, 0.01).tolist() == [1]
    assert logits[most_real(logits, 1.0)].tolist() == logits.tolist()
    opinions = torch.stack([logits, -4 * logits], dim=1)
    assert most_real(opinions, 0.25).tolist() == [2]


def test_mixed_styles_come_from_the_first_latent_up_to_a_layer_and_then_from_the_second() -> None:
    own, other = torch.zeros(400, 6, 2), torch.ones(400, 6, 2)
    mixed = mix_styles(own, other, Draws(0, torch.arange(400)), probability=0.75)[:, :, 0]
    assert torch.equal(mixed.sort(1).values, mixed)
    count = mixed.sum(1)
    assert 250 < (count > 0).sum() < 350
    assert set(count[count > 0].tolist()) == {1.0, 2.0, 3.0, 4.0, 5.0}


def test_style_mixing_keeps_an_unmixed_image() -> None:
    G = StyleGAN2GeneratorConfig(z_dim=8, w_dim=8, mapping_layers=1, channel_base=64, channel_max=8).build(SMALL)
    styles = G.styles(torch.randn(4, 8), torch.zeros(4, dtype=torch.long))
    assert torch.equal(mix_styles(styles, -styles, Draws(0, torch.arange(4)), probability=0.0), styles)


@pytest.mark.parametrize("style_mixing", [0.0, 0.9])
def test_path_lengths_are_those_of_mixed_styles(monkeypatch: pytest.MonkeyPatch, style_mixing: float) -> None:
    """As in StyleGAN2, whose path length regularisation works on images made as those are that G is trained on."""
    seen: list[torch.Tensor] = []

    def spied(image: torch.Tensor, styles: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        seen.append(styles)
        return path_lengths(image, styles, noise)

    monkeypatch.setattr("bigtrain.tasks.terms.path_length.path_lengths", spied)
    gradients({"terms": {"path_length": {}}, "style_mixing": style_mixing})
    mixed = [bool((styles != styles[:, :1]).any()) for styles in torch.cat(seen).split(1)]
    assert len(mixed) == 8
    assert any(mixed) == (style_mixing > 0)


def test_averages_move_by_what_was_observed_in_the_step_however_it_was_cut() -> None:
    whole, cut = Averages(CPU), Averages(CPU)
    values = torch.tensor([1.0, 2.0, 3.0, 6.0])
    for _ in range(2):
        whole.observe("a", values, decay=0.5)
        for part in values.split(1):
            cut.observe("a", part, decay=0.5)
            assert cut["a"] == whole["a"], "a step sees the averages as they were before it"
        whole.move()
        cut.move()
    assert whole["a"].item() == cut["a"].item() == pytest.approx(0.5 * 1.5 + 0.5 * 3)
    assert whole["never seen"] == 0
    whole.move()
    assert whole["a"] == cut["a"], "nothing observed, nothing moved"
    resumed = Averages(CPU)
    resumed.load_state_dict(cut.state_dict())
    assert resumed["a"] == cut["a"]


def test_adaptive_augmentation_follows_the_sign_of_d() -> None:
    augment = {"kind": "ada", "probability": {"kind": "adaptive", "interval": 2, "adjust_kimg": 0.1, "target": -1.0}}
    training = Training({"augment": augment, "objective": {"n_critic": 2}})
    probabilities = [float(training.task.stateful()["augment"].p)]
    for _ in range(4):
        training.step()
        probabilities.append(float(training.task.stateful()["augment"].p))
    # Two steps of 32 images: p moves by 64 / 100 images, and r_t is never below -1.
    assert probabilities == pytest.approx([0.0, 0.0, 0.64, 0.64, 1.0])
    assert training.means.read()["augment/p"] == pytest.approx((0.0 + 0.64 + 0.64 + 1.0) / 4)
