"""CUT: its loss against loops, the places that it looks at, and what it refuses."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from bigtrain.core.config import ConfigError, parse_config
from bigtrain.core.rng import Draws
from bigtrain.models.layers.patch_projector import PatchProjector, draw_places
from bigtrain.objectives.contrastive import patch_nce
from bigtrain.tasks.terms.cycle import mirror
from bigtrain.tasks.unpaired import UnpairedConfig
from tests.float64 import float64
from tests.task_training import TASKS, TaskTraining
from tests.training import distance
from tests.unit.tasks.test_translation import assert_gradients, gradients

pytestmark = pytest.mark.usefixtures("alone")
OBJECTIVE = TASKS["cut"][1]["objective"]


def test_the_loss_is_its_equation() -> None:
    query, key = (F.normalize(torch.randn(2, 5, 7), dim=2) for _ in range(2))
    found = patch_nce(query, key, 0.07)
    for image in range(2):
        for place in range(5):
            scores = [math.exp(float(query[image, place] @ other) / 0.07) for other in key[image]]
            expected = -math.log(scores[place] / sum(scores))
            assert found[image, place] == pytest.approx(expected, rel=1e-4, abs=1e-5)


def naive(training: TaskTraining) -> torch.Tensor:
    """Return the loss of G as in the paper, image by image and place by place."""
    config, player, batch = training.config.objective, training.task.players["G"], training.batch()
    term, G, H, D = config.terms.patch_nce, player.G_AB, player.patch_nce_G_AB, training.task.players["D"].D_B
    draws = batch.draws.of("g_main").of("G_AB")
    mirrored = draws.of("mirror").integers(2, 1)[:, 0] > 0
    assert 0 < mirrored.sum() < len(batch)
    x, y = mirror(batch["A.image"], mirrored), batch["B.image"]
    fake = G(x)
    total = (D(fake) - 1).square().mean()
    pairs = (("source", batch["A.image"], fake, mirrored, 1.0), ("target", y, G(y), None, term.identity))
    for name, source, made, back, weight in pairs:
        queries = [mirror(one, back) for one in G.encode(made, term.layers)]
        keys = [one.detach() for one in G.encode(source, term.layers)]
        places = draw_places(draws.of(f"patch_nce/{name}"), keys, term.patches)
        losses = []
        for head, query, key, place in zip(H.heads, queries, keys, places, strict=True):
            for image in range(len(batch)):
                rows, columns = place[image] // key.shape[3], place[image] % key.shape[3]
                q = [head(query[image, :, row, column]) for row, column in zip(rows, columns, strict=True)]
                k = [head(key[image, :, row, column]).detach() for row, column in zip(rows, columns, strict=True)]
                for number, one in enumerate(q):
                    scores = torch.stack([F.cosine_similarity(one, other, dim=0) for other in k]) / term.temperature
                    losses.append(scores.logsumexp(0) - scores[number])
        total = total + weight * term.weight.value * torch.stack(losses).mean()
    return total


def test_cut_is_its_paper() -> None:
    terms = {"cycle": None, "patch_nce": {"layers": [0, 2, 4], "patches": 5, "width": 8, "weight": 3, "identity": 0.5}}
    with float64():
        training = TaskTraining("cut", micro_batch=8, objective={**OBJECTIVE, "terms": terms})
        player = training.task.players["G"]
        assert_gradients(naive(training), player, gradients(training, "G"), "")


def test_the_projector_learns_with_the_generator() -> None:
    training = TaskTraining("cut")
    result = training.run(1)
    moved = {key for key, value in result["weights"].items() if not torch.equal(value, result["start"][key])}
    assert {key for key in result["weights"] if "patch_nce" in key} <= moved
    assert training.task.averaged.keys() == {"G_AB"}


def test_places_are_those_of_the_sample() -> None:
    activations = [torch.zeros(4, 3, 8, 8), torch.zeros(4, 5, 2, 2)]
    many, few = draw_places(Draws(0, torch.arange(4), "places"), activations, 10)
    assert many.shape == (4, 10)
    assert all(len(set(row.tolist())) == 10 for row in many)
    assert int(many.max()) < 64
    assert not torch.equal(many[0], many[1])
    assert few.tolist() == [[0, 1, 2, 3]] * 4
    alone, _ = draw_places(Draws(0, torch.tensor([2]), "places"), [x[:1] for x in activations], 10)
    assert torch.equal(alone[0], many[2])


def test_a_projector_gives_unit_vectors() -> None:
    found = PatchProjector([3], 6)([torch.randn(2, 3, 4, 4)], [torch.tensor([[0, 5], [15, 2]])])
    torch.testing.assert_close(found[0].norm(dim=2), torch.ones(2, 2))


def test_both_ways_have_projectors_of_their_own() -> None:
    """Contrastive learning in two directions, beside the cycle or without it (DCLGAN: Han et al. 2021)."""
    terms = {"cycle": {}, "patch_nce": {"layers": [0, 1], "patches": 4, "width": 4}}
    whole, cut = (
        TaskTraining("cut", micro_batch=size, one_sided=False, objective={**OBJECTIVE, "terms": terms})
        for size in (8, 2)
    )
    assert {"patch_nce_G_AB", "patch_nce_G_BA"} <= whole.task.networks().keys()
    assert distance(whole.run(1), cut.run(1)) < 1e-4


def test_one_direction_is_sampled() -> None:
    training = TaskTraining("cut")
    sampler, batch = training.task.sampler, training.batch()
    assert (list(sampler.inputs), list(sampler.outputs)) == (["A.image"], ["B.image"])
    made = sampler(training.task.networks(), {"A.image": batch["A.image"]}, batch.draws)
    assert made.keys() == {"B.image"}
    assert sampler.sources("B.image") == ["A.image"]


def refused(**changes: Any) -> str:
    with pytest.raises((ConfigError, ValueError)) as caught:
        config = parse_config(UnpairedConfig, {**TASKS["cut"][1], **changes}, source="test")
        with torch.device("meta"):
            networks = {name: spec.build() for name, spec in config.networks(TASKS["cut"][2]).items()}
        config.check_task(networks, micro_batch=4)
    return str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"terms": {"patch_nce": {"layers": [0]}}}, "objective.terms.cycle=null"),
        ({"terms": {"cycle": None, "patch_nce": {"layers": [0, 9]}}}, "'resnet_translator' has the layers 0 to 5"),
        ({"terms": {"cycle": None, "patch_nce": {"layers": [1, 1]}}}, "each once"),
        ({"terms": {"cycle": None, "patch_nce": {"layers": [0], "interval": 2}}}, "leave interval at 1"),
        ({"terms": {"cycle": None}}, "objective.flip_equivariance is of objective.terms.patch_nce"),
    ],
)
def test_what_does_not_fit_is_told_with_its_key(changes: dict[str, Any], message: str) -> None:
    assert message in refused(objective={**OBJECTIVE, **changes})


def test_a_generator_without_an_encoder_is_refused() -> None:
    unet = {"kind": "pix2pix_unet", "width": 4, "downs": 3, "norm": "instance"}
    assert "use the generator resnet_translator" in refused(generator=unet)
