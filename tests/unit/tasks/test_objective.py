"""What an objective refuses, and how it lays out a step."""

from typing import Any

import pytest
import torch
from torch import nn

from bigtrain.core.config import ConfigError, parse_config
from bigtrain.core.state import Progress
from bigtrain.models import ImageSpec
from bigtrain.models.biggan import BigGANDiscriminatorConfig, BigGANGeneratorConfig
from bigtrain.models.stylegan2 import StyleGAN2DiscriminatorConfig, StyleGAN2GeneratorConfig
from bigtrain.tasks.objective import ObjectiveConfig
from bigtrain.tasks.terms import Setting

IMAGE = ImageSpec(8, 1, 3)


def objective(**keys: Any) -> ObjectiveConfig:
    return parse_config(ObjectiveConfig, keys, source="run.yaml")


def setting(
    *,
    styles: bool = False,
    spectral: bool = True,
    batch_norm: bool = False,
    classes: int = 3,
    micro_batch: int = 4,
) -> Setting:
    image = ImageSpec(8, 1, classes)
    with torch.device("meta"):
        if styles:
            networks = [StyleGAN2GeneratorConfig().build(image), StyleGAN2DiscriminatorConfig().build(image)]
        else:
            networks = [
                BigGANGeneratorConfig(multiples=(1, 1)).build(image),
                BigGANDiscriminatorConfig(multiples=(1, 1), spectral=spectral).build(image),
            ]
        if batch_norm:
            networks[1].add_module("norm", nn.BatchNorm2d(3))
    return Setting(*networks, micro_batch=micro_batch)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"adversarial": "hing"}, "'adversarial'"),
        ({"adversarial": "hinge", "real_target": 0.9}, "'hinge' has no targets"),
        ({"real_target": 0.2, "fake_target": 0.5}, "must be above fake_target"),
        ({"terms": {"r1": {"gama": 1}}}, "did you mean 'terms.r1.gamma'"),
        ({"terms": {"r1": {}}}, "missing key 'terms.r1.gamma'"),
        ({"terms": {"r1": {"gamma": 1, "weight": 2}}}, "unknown key 'terms.r1.weight'"),
        ({"terms": {"r3": {"gamma": 1}}}, "unknown key 'terms.r3' (did you mean 'terms.r2'?)"),
        ({"terms": {"cr": {}, "bcr": {}}}, "terms.bcr contains terms.cr"),
        ({"terms": {"wgan_gp": {}}, "weight_clip": 0.01}, "choose one"),
    ],
)
def test_what_contradicts_itself_is_refused(keys: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        objective(**keys)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("keys", "where", "words"),
    [
        ({"terms": {"wgan_gp": {}}}, {"batch_norm": True}, "objective.terms.wgan_gp: .* batch normalisation"),
        ({"terms": {"r1": {"gamma": 1}}}, {"batch_norm": True}, "objective.terms.r1: .* batch normalisation"),
        ({"terms": {"path_length": {}}}, {}, "objective.terms.path_length: .* has none"),
        ({"terms": {"path_length": {}}}, {"styles": True, "micro_batch": 1}, "shrink 2 must not exceed micro_batch"),
        ({"terms": {"orthogonal": {}}}, {"styles": True}, "scales its weights only when it uses them"),
        ({"terms": {"auxiliary_classifier": {}}}, {"classes": 0}, "needs classes"),
        ({"terms": {"auxiliary_classifier": {"interval": 2}}}, {}, "leave interval at 1"),
        ({"style_mixing": 0.9}, {}, "this generator has none"),
        ({"adversarial": "wasserstein"}, {"styles": True}, "needs a D whose gradient is limited"),
        ({"adversarial": "wasserstein"}, {"spectral": False}, "needs a D whose gradient is limited"),
        ({"adversarial": "relativistic_average"}, {"micro_batch": 1}, "set micro_batch to 2 or more"),
    ],
)
def test_what_cannot_work_is_refused_with_the_reason(keys: dict[str, Any], where: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        objective(**keys).check(setting(**where))


@pytest.mark.parametrize(
    ("keys", "where"),
    [
        ({"adversarial": "wasserstein"}, {}),  # BigGAN's D has spectral normalisation
        ({"adversarial": "wasserstein", "terms": {"wgan_gp": {}}}, {"styles": True}),
        ({"adversarial": "wasserstein", "weight_clip": 0.01}, {"styles": True}),
        ({"terms": {"path_length": {}}, "style_mixing": 0.9}, {"styles": True}),
        ({"terms": {"orthogonal": {}, "auxiliary_classifier": {}}}, {}),
    ],
)
def test_what_can_work_is_not_refused(keys: dict[str, Any], where: dict[str, Any]) -> None:
    objective(**keys).check(setting(**where))


def test_a_config_writes_only_the_terms_it_has() -> None:
    written = objective(terms={"wgan_gp": {"weight": 2}}).model_dump(mode="json")
    assert written["terms"] == {"wgan_gp": {"weight": 2.0, "interval": 1, "fp32": True}}
    assert objective(**written) == objective(terms={"wgan_gp": {"weight": 2}})


def test_each_update_of_d_reads_a_batch_of_its_own_and_g_the_last() -> None:
    phases = objective(n_critic=3).phases(Progress(1000, 30))
    assert [(phase.player, phase.batch) for phase in phases] == [("D", 0), ("D", 1), ("D", 2), ("G", 2)]


def test_lazy_terms_are_due_at_their_interval_and_weigh_as_much_on_average() -> None:
    lazy = objective(n_critic=2, terms={"r1": {"gamma": {"kind": "linear", "value": 8}, "interval": 3}})
    progress, due = Progress(600, 20), []
    for _ in range(6):
        due += [phase.values.get("r1") for phase in lazy.phases(progress) if phase.player == "D"]
        progress.advance()
    gamma = [8 * (1 - 20 * step / 600) for step in range(6) for _ in range(2)]
    expected = [3 * gamma[update] / 2 if update % 3 == 0 else None for update in range(12)]
    assert [value is None for value in due] == [value is None for value in expected]
    assert [value for value in due if value] == pytest.approx([value for value in expected if value])
