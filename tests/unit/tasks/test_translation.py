"""Translation and unpaired translation: their losses against the same thing written out, and what they refuse."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from bigtrain.core.config import ConfigError, parse_config
from bigtrain.core.errors import UserError
from bigtrain.core.rng import Draws
from bigtrain.engine.step import compute_gradients
from bigtrain.health.balance import GENERATOR_NORM, DiscriminatorWins, GeneratorWins, Oscillation
from bigtrain.health.stability import LearningStopped
from bigtrain.objectives.image_pool import ImagePool
from bigtrain.planning.counting import fullest_phases, kinds_of_phases
from bigtrain.tasks.image_pools import ImagePools
from bigtrain.tasks.translation import TranslationConfig
from tests.task_training import MICRO_BATCHES_MATTER, RESNET, TASKS, TaskTraining
from tests.training import distance

pytestmark = pytest.mark.usefixtures("alone")


def gradients(training: TaskTraining, player: str) -> dict[str, torch.Tensor]:
    """Return the gradients of a player's phase on the first batch."""
    phase = next(phase for phase in training.task.phases(training.progress) if phase.player == player)
    compute_gradients(training.task, training.strategies, phase, training.batch(), training.micro_batch)
    return {name: p.grad for name, p in training.task.players[player].named_parameters() if p.grad is not None}


def assert_gradients(loss: torch.Tensor, network: torch.nn.Module, found: dict[str, torch.Tensor], prefix: str) -> None:
    names, parameters = zip(*network.named_parameters(), strict=True)
    expected = torch.autograd.grad(loss, parameters, allow_unused=True, retain_graph=True)
    for name, gradient in zip(names, expected, strict=True):
        if gradient is not None:
            torch.testing.assert_close(found[f"{prefix}{name}"], gradient, rtol=1e-4, atol=1e-7)


def test_pix2pix_is_its_paper() -> None:
    generator = {"kind": "pix2pix_unet", "width": 4, "downs": 3, "norm": "instance", "dropout": 0.0}
    training = TaskTraining("pix2pix", micro_batch=8, generator=generator)
    G, D, batch = training.task.players["G"].G, training.task.players["D"].D, training.batch()
    x, y = batch["input"], batch["target"]
    fake = G(x)
    loss_d = 0.5 * (F.softplus(-D(y, x)).mean() + F.softplus(D(fake.detach(), x)).mean())
    loss_g = F.softplus(-D(fake, x)).mean() + 10 * (fake - y).abs().mean()
    assert_gradients(loss_d, D, gradients(training, "D"), "D.")
    assert_gradients(loss_g, G, gradients(training, "G"), "G.")


def test_cyclegan_is_its_paper() -> None:
    training = TaskTraining("cyclegan", micro_batch=8, objective={**TASKS["cyclegan"][1]["objective"], "pool": 0})
    ours, theirs = training.task.players["G"], training.task.players["D"]
    batch = training.batch()
    a, b = batch["A.image"], batch["B.image"]
    fake_b, fake_a = ours.G_AB(a), ours.G_BA(b)
    loss_d = 0.5 * sum(
        (D(real) - 1).square().mean() + D(fake.detach()).square().mean()
        for D, real, fake in ((theirs.D_A, a, fake_a), (theirs.D_B, b, fake_b))
    )
    game = (theirs.D_B(fake_b) - 1).square().mean() + (theirs.D_A(fake_a) - 1).square().mean()
    cycle = 10 * (F.l1_loss(ours.G_BA(fake_b), a) + F.l1_loss(ours.G_AB(fake_a), b))
    identity = 5 * (F.l1_loss(ours.G_AB(b), b) + F.l1_loss(ours.G_BA(a), a))
    assert_gradients(loss_d, theirs, gradients(training, "D"), "")
    assert_gradients(game + cycle + identity, ours, gradients(training, "G"), "")


def test_a_first_stage_has_a_game_of_its_own() -> None:
    first = {**TASKS["edges_first"][1]["first_stage"]}
    first["objective"] = {"discriminator_weight": 0.5, "terms": {"feature_matching": {"weight": 3.0, "distance": "l1"}}}
    training = TaskTraining("edges_first", micro_batch=8, objective={"adversarial": "hinge"}, first_stage=first)
    G, Ds, batch = training.task.players["G"].G, training.task.players["D"], training.batch()
    x, y, grey, wanted = (batch[name] for name in ("input", "target", "grey", "edges"))
    edges, image = G.both(x)
    loss_d = F.relu(1 - Ds.D(y, x)).mean() + F.relu(1 + Ds.D(image.detach(), x)).mean()
    judged, drawn = Ds.D_first.features(wanted, grey), Ds.D_first.features(edges.detach(), grey)
    loss_d = loss_d + 0.5 * (F.softplus(-Ds.D_first.head(judged[-1])) + F.softplus(Ds.D_first.head(drawn[-1]))).mean()
    drawn = Ds.D_first.features(edges, grey)
    likeness = sum((F.l1_loss(one, other.detach()) for one, other in zip(drawn, judged, strict=True)), torch.zeros(()))
    loss_g = -Ds.D(image, x).mean() + F.softplus(-Ds.D_first.head(drawn[-1])).mean() + 3 * likeness
    assert_gradients(loss_d, Ds, gradients(training, "D"), "")
    assert_gradients(loss_g, G, gradients(training, "G"), "G.")
    means = training.run(1)["means"]
    assert {"loss/g_main", "loss/g_main/first_stage", "reg/feature_matching/first_stage"} <= means.keys()


def test_a_stage_may_have_no_game_or_begin_it_later() -> None:
    first = {"target": "target", "objective": {"terms": {"l1": {"weight": 2.0}}}}
    generator = {"kind": "gated_inpainter", "width": 2, "dilations": [2]}
    objective = {"adversary_from_kimg": 0.008, "terms": {"l1": {"weight": 1.0}}}
    training = TaskTraining("edges_first", micro_batch=8, generator=generator, objective=objective, first_stage=first)
    assert [dict(phase.values) for phase in training.task.phases(training.progress)] == [
        {"l1": 1.0, "first_stage.l1": 2.0}
    ]
    G, batch = training.task.players["G"].G, training.batch()
    coarse, image = G.both(batch["input"])
    loss = F.l1_loss(image, batch["target"]) + 2 * F.l1_loss(coarse, batch["target"])
    assert_gradients(loss, G, gradients(training, "G"), "G.")
    training.run(1)
    later = {phase.name: set(phase.values) for phase in training.task.phases(training.progress)}
    assert later == {"d_main": {"adversarial"}, "g_main": {"adversarial", "l1", "first_stage.l1"}}


def test_terms_look_at_each_direction_of_a_cyclegan() -> None:
    objective = {"adversarial": "least_squares", "terms": {"cycle": None, "r1": {"gamma": 2.0}}, "pool": 0}
    training = TaskTraining("cyclegan", micro_batch=8, objective=objective)
    ours, theirs = training.task.players["G"], training.task.players["D"]
    batch, loss = training.batch(), torch.zeros(())
    for D, G, real, source in ((theirs.D_A, ours.G_BA, "A", "B"), (theirs.D_B, ours.G_AB, "B", "A")):
        image = batch[f"{real}.image"].clone().requires_grad_()
        logits, fake = D(image), G(batch[f"{source}.image"]).detach()
        (slope,) = torch.autograd.grad(logits.sum(), image, create_graph=True)
        loss = loss + 0.5 * ((logits - 1).square().mean() + D(fake).square().mean())
        loss = loss + slope.square().sum((1, 2, 3)).mean()
    assert_gradients(loss, theirs, gradients(training, "D"), "")
    dumped = training.config.model_dump(mode="json")["objective"]["terms"]
    assert dumped.keys() == {"cycle", "r1"}  # what is left out on purpose stays left out
    assert dumped["cycle"] is None


@pytest.mark.parametrize("name", sorted({*TASKS} - MICRO_BATCHES_MATTER))
def test_micro_batches_change_nothing(name: str) -> None:
    whole, cut = (TaskTraining(name, micro_batch=size).run(2) for size in (8, 2))
    assert distance(whole, cut) < 1e-4


@pytest.mark.parametrize("name", list(TASKS))
def test_a_state_is_all_there_is(name: str) -> None:
    straight, first, second = (TaskTraining(name, seed=seed) for seed in (0, 0, 1))
    expected = straight.run(4)["weights"]
    first.run(2)
    second.load_state_dict(first.state_dict())
    found = second.run(2)["weights"]
    assert all(torch.equal(found[key], expected[key]) for key in expected)


@pytest.mark.parametrize(
    ("name", "parts"),
    [("pix2pix", {""}), ("cyclegan", {"D_A", "D_B"}), ("cut", {"D_B"}), ("edges_first", {"D", "D_first"})],
)
def test_health_monitors_read_every_discriminator(name: str, parts: set[str]) -> None:
    training = TaskTraining(name)
    readings = training.run(1)["means"]
    phases = {phase.player: phase.name for phase in training.task.phases(training.progress)}
    (generator,) = (player for player, role in training.config.roles.items() if role == "generator")
    readings[GENERATOR_NORM] = readings[f"gradient_norm/{phases[generator]}"]
    for monitor in (DiscriminatorWins, GeneratorWins, Oscillation, LearningStopped):
        assert monitor().select(readings).keys() == parts
    networks = {key: network for player in training.task.players.values() for key, network in player.networks().items()}
    with torch.no_grad():
        logits = training.task.logits_of(networks, training.batch())
    assert {key: value.shape for key, value in logits.items()} == dict.fromkeys(parts, torch.Size([8]))


def test_the_game_begins_when_it_is_told_to() -> None:
    objective = {"adversary_from_kimg": 0.008, "terms": {"l1": {}}}
    training = TaskTraining("pix2pix", objective=objective)
    assert [phase.name for phase in training.task.phases(training.progress)] == ["g_main"]
    before = training.weights()
    training.run(1)
    after = training.weights()
    moved = {key.partition(".")[0] for key in before if not torch.equal(before[key], after[key])}
    assert moved == {"G"}
    assert [phase.name for phase in training.task.phases(training.progress)] == ["d_main", "g_main"]


@pytest.mark.parametrize("name", ["pix2pix", "cyclegan"])
def test_a_game_that_begins_late_is_planned(name: str) -> None:
    training = TaskTraining(name, objective={**TASKS[name][1]["objective"], "adversary_from_kimg": 5.0})
    kinds = kinds_of_phases(training.task, training.progress)  # of 10 kimg
    often = {names[0]: sum(share for kind, (_, share) in kinds.items() if kind[0] == names[0]) for names in kinds}
    assert often["g_main"] == pytest.approx(1.0)
    assert 0.3 < often["d_main"] < 0.7
    fullest = {phase.name: phase for phase in fullest_phases(training.task, training.progress)}
    assert fullest.keys() == {"d_main", "g_main"}
    assert "adversarial" in fullest["g_main"].values


def test_pools_are_the_published_one_for_a_batch_of_one() -> None:
    pools, draws = ImagePools(2, batch=1), Draws(0, torch.arange(6), "pool")
    images = torch.arange(6.0).reshape(6, 1, 1, 1)
    seen = [pools.exchange(images[row : row + 1], draws[row : row + 1]) for row in range(6)]
    assert [float(one) for one in seen[:2]] == [0.0, 1.0]  # it fills first
    assert any(float(one) != row for row, one in enumerate(seen))  # older ones come back
    assert all(float(one) <= row for row, one in enumerate(seen))


def test_pools_go_by_the_place_in_the_batch() -> None:
    together, apart = ImagePools(8, batch=4), ImagePools(8, batch=4)
    images = torch.arange(16.0).reshape(16, 1, 1, 1)
    for step in range(4):
        rows = slice(4 * step, 4 * step + 4)
        draws = Draws(0, torch.arange(4 * step, 4 * step + 4), "pool")
        whole = together.exchange(images[rows], draws)
        halves = [apart.exchange(images[rows][part], draws[part]) for part in (slice(2, 4), slice(0, 2))]
        assert torch.equal(whole, torch.cat(halves[::-1]))


@pytest.mark.parametrize("seen", [0, 8, 40])
def test_pools_are_one_a_place(seen: int) -> None:
    """The one that computes all places at once is many that compute an image after the other; from a state, too."""
    pools, plain = ImagePools(12, batch=8), [ImagePool(2) for _ in range(8)]
    for start in range(0, 80, 4):  # micro-batches of four
        if start == seen:
            later = ImagePools(12, batch=8)
            later.load_state_dict(pools.state_dict())
            pools = later
        draws = Draws(0, torch.arange(start, start + 4), "pool")
        images = torch.arange(start, start + 4.0).reshape(4, 1, 1, 1).expand(4, 3, 2, 2)
        uniform, index = draws.of("swap").uniform(1)[:, 0], draws.of("place").integers(2, 1)[:, 0]
        places = [(start + row) % 8 for row in range(4)]
        one_by_one = [
            plain[place].exchange(images[row : row + 1], uniform[row : row + 1], index[row : row + 1])
            for row, place in enumerate(places)
        ]
        assert torch.equal(pools.exchange(images, draws), torch.cat(one_by_one))
    state = pools.state_dict()
    assert all(torch.equal(state[str(place)]["images"], plain[place].state_dict()["images"]) for place in range(8))


def refused(task: str, **changes: Any) -> str:
    with pytest.raises((ConfigError, ValueError)) as caught:
        training = TaskTraining(task, **changes)
        networks = training.task.networks()
        training.config.check_task(networks, micro_batch=4)
        training.config.check_players()
    return str(caught.value)


def test_what_does_not_fit_is_told_with_its_key() -> None:
    assert "objective.terms: without a discriminator" in refused(
        "pix2pix", discriminator=None, objective={}, optim={"G": {"lr": 1e-3}}
    )
    assert "G needs a term whose weight is above 0" in refused(
        "pix2pix", discriminator=None, objective={"terms": {"l1": {"weight": 0}}}, optim={"G": {"lr": 1e-3}}
    )
    r1 = {"terms": {"l1": {}, "r1": {"gamma": 1.0}}}
    assert "objective.terms.r1 needs a discriminator" in refused(
        "pix2pix", discriminator=None, objective=r1, optim={"G": {"lr": 1e-3}}
    )
    assert "set an optimizer for each" in refused("pix2pix", discriminator=None, objective={"terms": {"l1": {}}})
    first = TASKS["edges_first"][1]["first_stage"]
    needless = {**first, "discriminator": None}
    assert "first_stage.objective.terms.feature_matching needs a disc" in refused("edges_first", first_stage=needless)
    assert "first_stage.target: the first stage makes [1, 16, 16], but the field has the shape [3, 16, 16]" in refused(
        "edges_first", first_stage={**first, "target": "target"}
    )
    assert "add first_stage, with its target and its objective" in refused("edges_first", first_stage=None)
    assert "first_stage: the generator 'resnet_translator' has one stage" in refused("edges_first", generator=RESNET)
    coarse = {"kind": "gated_inpainter", "width": 2, "refine": False}
    assert "first_stage: generator.refine is false" in refused("edges_first", generator=coarse)
    assert "has no such pairs here" in refused("cyclegan", objective={"adversarial": "relativistic_average"})


def test_a_synthesis_has_no_target() -> None:
    with pytest.raises(ConfigError, match="unknown key"):
        parse_config(TranslationConfig, {**TASKS["pix2pix"][1], "augment": {"kind": "ada"}}, source="test")


def test_a_translator_is_given_its_input() -> None:
    sampler = TaskTraining("pix2pix").task.sampler
    with pytest.raises(UserError, match="bigtrain apply"):
        sampler.draw_inputs(Draws(0, torch.arange(2)))


def test_dropout_is_the_noise_of_a_position() -> None:
    training = TaskTraining("pix2pix")
    batch, networks = training.batch(), training.task.networks()
    sample = training.task.sampler
    plain, again = (sample(networks, batch.fields, batch.draws)["target"] for _ in range(2))
    noisy = sample(networks, batch.fields, batch.draws, noise=True)["target"]
    assert torch.equal(plain, again)
    assert not torch.equal(plain, noisy)
    part = sample(networks, {"input": batch["input"][2:4]}, batch.draws[2:4], noise=True)["target"]
    torch.testing.assert_close(part, noisy[2:4], rtol=1e-4, atol=1e-5)
