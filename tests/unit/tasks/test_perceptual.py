"""The perceptual term: its gradient against the same thing written out, what it refuses, and its plan."""

from pathlib import Path
from typing import Any, get_args

import pytest
import torch
import torch.nn.functional as F

from bigtrain.config import load_training
from bigtrain.core.config import ConfigError
from bigtrain.engine.step import compute_gradients
from bigtrain.models.pretrained import EfficientNetLite0Maps, FeatureMapsName, feature_maps
from bigtrain.models.pretrained.weights import WeightsError
from bigtrain.planning.counting import FakeRun
from data_pipelines.fields.spec import FieldSpec
from tests.task_training import ADAM, TASKS, TaskTraining
from tests.training import CPU

RECIPE = Path(__file__).parents[3] / "configs" / "translation" / "pix2pix-emoji64.yaml"
pytestmark = pytest.mark.usefixtures("alone")


def alone(**perceptual: Any) -> TaskTraining:
    """A generator that learns by the term alone."""
    objective = {"terms": {"perceptual": perceptual}}
    return TaskTraining("pix2pix", micro_batch=8, discriminator=None, objective=objective, optim={"G": ADAM})


def test_it_is_the_papers() -> None:
    training = alone(weight=2.0, depths=[1, 3])
    (phase,) = training.task.phases(training.progress)
    batch, player = training.batch(), training.task.players["G"]
    compute_gradients(training.task, training.strategies, phase, batch, 8)
    maps = EfficientNetLite0Maps()
    maps.load(CPU)
    made = maps(player.G(batch["input"], batch.draws.of("g_main").of("G")))
    wanted = maps(batch["target"])
    loss = 2.0 * (F.mse_loss(made[0], wanted[0]) + F.mse_loss(made[2], wanted[2])) / 2
    expected = torch.autograd.grad(loss, list(player.G.parameters()), allow_unused=True)
    for parameter, gradient in zip(player.G.parameters(), expected, strict=True):
        if gradient is not None:
            torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-7)
    assert not list(player.children())[1:], "the frozen network is no part of what is trained and saved"


def test_styles_are_compared_by_gram_matrices() -> None:
    training, plain = (alone(depths=[1, 3], gram=gram) for gram in (7.0, 0.0))
    batch, player = training.batch(), training.task.players["G"]
    (phase,) = training.task.phases(training.progress)
    both, without = (float(one.task.players["G"](phase, batch, {})[0].detach()) for one in (training, plain))
    maps = EfficientNetLite0Maps()
    maps.load(CPU)
    made = maps(player.G(batch["input"], batch.draws.of("g_main").of("G")))
    wanted, style = maps(batch["target"]), 0.0
    for depth in (0, 2):
        ours, theirs = (
            torch.einsum("nchw,ndhw->ncd", one, one) / one[0].numel() for one in (made[depth], wanted[depth])
        )
        style += float((ours - theirs).abs().mean().detach()) / 2
    assert both - without == pytest.approx(7.0 * style, rel=1e-4)


def test_missing_weights_are_found_before_training() -> None:
    with pytest.raises(
        WeightsError, match=r"objective.terms.perceptual: the weights of vgg16 are not in .* fetch vgg16"
    ):
        alone_config(network="vgg16").check_weights()
    with pytest.raises(WeightsError, match="installed with a package; give no weights"):
        alone_config(weights="vgg.pth").check_weights()
    alone_config().check_weights()
    with pytest.raises(WeightsError, match=r"the weights of vgg16 are not in .* `bigtrain weights fetch vgg16`"):
        load_training(RECIPE, ["eval.pairs=[lpips]"]).eval.check_weights()


def alone_config(**perceptual: Any) -> Any:
    terms = {f"objective.terms.perceptual.{key}": value for key, value in perceptual.items()}
    return load_training(RECIPE, ["objective.terms.perceptual={}", *(f"{key}={value}" for key, value in terms.items())])


@pytest.mark.parametrize("network", get_args(FeatureMapsName))
def test_a_plan_needs_no_weights_and_counts_them(network: FeatureMapsName) -> None:
    plain, seen = FakeRun(load_training(RECIPE, [])), FakeRun(alone_config(network=network))
    assert seen.sizes("G").buffers - plain.sizes("G").buffers == 4 * sum(
        value.numel() for value in feature_maps(network).parameters()
    )
    (phase,) = (phase for phase, _ in seen.kinds().values() if phase.player == "G")
    assert seen.work(phase, 2).flops.sum() > plain.work(phase, 2).flops.sum()


def test_what_it_cannot_look_at_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"depths \[1, 6\]: list one or more of 1, 2, 3, 4, 5"):
        alone(depths=[1, 6])
    schema, config, fields = TASKS["pix2pix"]
    monkeypatch.setitem(
        TASKS, "pix2pix", (schema, config, {**fields, "target": FieldSpec("image", (2, 16, 16), "uint8")})
    )
    training = alone()
    with pytest.raises(ValueError, match=r"objective.terms.perceptual: efficientnet-lite0 reads grey or RGB images"):
        training.config.check_task(training.task.networks(), micro_batch=4)


def test_the_empty_network_is_shaped_like_the_loaded_one() -> None:
    maps = EfficientNetLite0Maps()
    shapes = {name: value.shape for name, value in maps.state_dict().items()}
    maps.load(CPU)
    assert {name: value.shape for name, value in maps.state_dict().items()} == shapes
