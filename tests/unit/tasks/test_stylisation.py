"""Style transfer: AdaIN and its losses written out, the frozen encoder, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch

from bigtrain.core.config import ConfigError, parse_config
from bigtrain.generate.snapshot import load_snapshot, save_snapshot
from bigtrain.models.adain import AdaINConfig, adain
from bigtrain.models.base import ImageSpec
from bigtrain.models.pretrained import feature_maps
from bigtrain.models.pretrained.efficientnet_lite0 import EfficientNetLite0
from bigtrain.models.pretrained.weights import WeightsError
from bigtrain.tasks.stylisation import StylisationConfig
from tests.float64 import float64
from tests.task_training import TASKS, TaskTraining
from tests.unit.tasks.test_translation import assert_gradients, gradients

pytestmark = pytest.mark.usefixtures("alone")


def test_adain_is_its_equation() -> None:
    content, style = torch.randn(2, 3, 4, 4), 2 * torch.randn(2, 3, 5, 6) + 1
    made = adain(content, style)
    for image in range(2):
        for channel in range(3):
            x, y = content[image, channel], style[image, channel]
            expected = y.std(correction=0) * (x - x.mean()) / x.std(correction=0) + y.mean()
            torch.testing.assert_close(made[image, channel], expected, rtol=1e-3, atol=1e-3)


def test_adain_is_its_paper() -> None:
    with float64():
        training = TaskTraining("stylisation", micro_batch=8, objective={"adversarial": "least_squares"})
        G, D, batch = training.task.players["G"].G, training.task.players["D"].D, training.batch()
        content, style = batch["content.image"], batch["style.image"]
        encoder = feature_maps("efficientnet-lite0")
        encoder.load(torch.device("cpu"))
        of_style = encoder(style)[:2]
        wanted = adain(encoder(content)[1], of_style[1])
        fake = G.decode(wanted)
        torch.testing.assert_close(fake, G(content, style))
        made = encoder(fake)[:2]
        total = (D(fake) - 1).square().mean() / 2 + (made[1] - wanted).square().mean()
        for ours, theirs in zip(made, of_style, strict=True):
            rows, others = ours.flatten(2), theirs.flatten(2)
            deviations = [(one.var(2, correction=0) + 1e-5).sqrt() for one in (rows, others)]
            total = total + 10 * (rows.mean(2) - others.mean(2)).square().mean()
            total = total + 10 * (deviations[0] - deviations[1]).square().mean()
        loss_d = ((D(style) - 1).square().mean() + D(fake.detach()).square().mean()) / 2
        assert_gradients(loss_d, D, gradients(training, "D"), "D.")
        assert_gradients(total, G, gradients(training, "G"), "G.")


def test_the_encoder_is_not_trained_and_is_in_the_snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training = TaskTraining("stylisation")
    G = training.task.averaged["G"]
    before = {name: value.clone() for name, value in G.named_buffers()}
    training.run(1)
    assert before
    assert all(torch.equal(value, before[name]) for name, value in G.named_buffers())
    assert not [name for name, _ in G.named_parameters() if name.startswith("encoder")]
    task = training.task
    save_snapshot(tmp_path, {"G": G}, task.specs, task.sampler, averaged=("G",), class_names=(), facts={})
    monkeypatch.delattr(EfficientNetLite0, "pretrained")  # nobody reads the encoder's file
    batch, loaded = training.batch(), load_snapshot(tmp_path)
    made = loaded.sampler(loaded.networks, dict(batch.fields), batch.draws)["style.image"]
    torch.testing.assert_close(made, G.eval()(batch["content.image"], batch["style.image"]))


def test_without_a_discriminator_the_terms_train_alone() -> None:
    adam = TASKS["stylisation"][1]["optim"]["G"]
    training = TaskTraining("stylisation", discriminator=None, objective={}, optim={"G": adam})
    assert [phase.name for phase in training.task.phases(training.progress)] == ["g_main"]
    assert {"reg/content", "reg/style"} <= training.run(1)["means"].keys()


def refused(**changes: Any) -> str:
    with pytest.raises((ConfigError, ValueError)) as caught:
        config = parse_config(StylisationConfig, {**TASKS["stylisation"][1], **changes}, source="test")
        with torch.device("meta"):
            networks = {name: spec.build() for name, spec in config.networks(TASKS["stylisation"][2]).items()}
        config.check_task(networks, micro_batch=4)
    return str(caught.value)


def test_what_does_not_fit_is_told_with_its_key() -> None:
    assert "has no such pairs" in refused(objective={"adversarial": "relativistic_average"})
    assert "objective.terms.r1 needs a discriminator" in refused(discriminator=None)
    assert "G needs a term" in refused(discriminator=None, objective={"terms": {"content": None, "style": None}})
    assert "height and width must be multiples of 16" in refused(generator={"kind": "adain", "depth": 4})
    with pytest.raises(ValueError, match="colour images"):
        AdaINConfig().build(ImageSpec(16, 1), ImageSpec(16, 3))


def test_missing_weights_of_the_encoder_are_told_before_the_run(tmp_path: Path) -> None:
    generator = {"kind": "adain", "encoder": "vgg16", "weights": str(tmp_path / "none.pth")}
    config = parse_config(StylisationConfig, {**TASKS["stylisation"][1], "generator": generator}, source="test")
    with pytest.raises(WeightsError, match="^generator: "):
        config.check_weights()
