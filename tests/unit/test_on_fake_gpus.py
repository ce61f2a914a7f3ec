"""All that is registered stays on its device, and repeats itself there: on GPUs that are not there.

What is registered later, by us or by a package, is tested as it comes: a family with its defaults, or with what
`NEEDS` says of it.
"""

from typing import Any, get_args

import pytest
import torch

from bigtrain.augment import AugmentConfig
from bigtrain.config import TRAININGS
from bigtrain.core.config import parse_config
from bigtrain.core.rng import Draws
from bigtrain.core.state import Progress
from bigtrain.distributed.determinism import NOT_REPEATABLE
from bigtrain.distributed.init import Ranks
from bigtrain.engine.made_up import random_batch
from bigtrain.engine.step import take_step
from bigtrain.models import DISCRIMINATORS, GENERATORS, PATCH_DISCRIMINATORS, TRANSLATORS, ImageSpec
from bigtrain.objectives.adversarial import GAMES
from bigtrain.strategies.single import SingleConfig
from bigtrain.tasks.stylisation import StylisationConfig
from bigtrain.tasks.synthesis import SynthesisConfig
from bigtrain.tasks.terms import OTHER_TERMS, TermsConfig
from bigtrain.tasks.translation import TranslationConfig
from bigtrain.tasks.translation_objective import TranslationTermsConfig
from bigtrain.tasks.unpaired import UnpairedConfig, UnpairedTermsConfig
from data_pipelines.fields.spec import FieldSpec
from tests.fake_cuda import GPU, Operators, fake_cuda
from tests.task_training import TASKS
from tests.training import OPTIMIZERS, STYLEGAN2, fields_of

pytestmark = pytest.mark.usefixtures("alone")
COMMON = {"optim": {"G": {"lr": 1e-3}, "D": {"lr": 1e-3}}, "global_batch": 2}
MLP = {"kind": "mlp", "hidden": [8]}
PATCH, UNET = {"kind": "patch", "width": 4, "layers": 1}, {"kind": "pix2pix_unet", "width": 4, "downs": 2}
IMAGE = FieldSpec("image", (3, 32, 32), "uint8")
PAIRS, DOMAINS = {"input": IMAGE, "target": IMAGE}, {"A.image": IMAGE, "B.image": IMAGE}
NEEDS: dict[str, dict[str, Any]] = {
    "r3gan": {"widths": [16, 16, 16, 8], "groups": [4, 4, 4, 2], "blocks": [1, 1, 1, 1]},
    "edge_inpainter": {"edges": UNET, "image": UNET},
    "gated_inpainter": {"width": 4},
    "lab_colouriser": {"base": UNET},
    "spade": {"width": 2, "doublings": 2, "hidden": 4},
    "multi_scale": {"base": {"kind": "dcgan", "width": 4}},
    "minibatch_discrimination": {"base": MLP},
    "biggan-deep": {"width": 8},
    "stylegan3": {"layers": 6},
    "wavegan": {"width": 4},
    "gan3d": {"width": 4},
    "dvdgan": {"width": 2},
    "mocogan": {"base": {"kind": "dcgan", "width": 4}},
    "tgan": {"base": {"kind": "dcgan", "width": 4, "z_dim": 110}},
    "hifigan": {"width": 16, "rates": [8, 8], "kernels": [16, 16]},
    "rrdb": {"blocks": 1},
    "srresnet": {"blocks": 1},
}
"""What a family cannot do without, or what makes it small."""
SOUNDS = {"image": FieldSpec("array", (1, 1024), "float32")}
VOLUMES = {"image": FieldSpec("array", (1, 8, 8, 8), "float32")}
CLIPS = {"image": FieldSpec("video", (4, 3, 8, 8), "uint8")}
OTHER_SAMPLES = {
    "gan3d": VOLUMES,
    "rgan": {"image": FieldSpec("array", (32, 3), "float32")},
    "mocogan": CLIPS,
    "tgan": CLIPS,
    "dvdgan": {"image": FieldSpec("video", (8, 3, 64, 64), "uint8")},
}
CLASSES = fields_of(ImageSpec(32, 3, 5))
AUGMENTATIONS = get_args(get_args(AugmentConfig)[0])
TERMS: dict[str, dict[str, Any]] = {"r1": {"gamma": 1.0}, "r2": {"gamma": 1.0}}
"""Settings of terms that have no default."""


LABEL_MAPS = {
    "generator": {"kind": "label_map", "labels": 4, "base": {"kind": "spade", **NEEDS["spade"]}},
    "discriminator": {"kind": "label_map", "labels": 4, "base": {"kind": "multi_scale_patch", "base": PATCH}},
}
"""Networks of label maps, which are images of one channel."""


def network(kind: str) -> dict[str, Any]:
    return {"kind": kind, **NEEDS.get(kind, {})}


def take(task_config: Any, fields: dict[str, FieldSpec], monkeypatch: pytest.MonkeyPatch, **options: Any) -> Operators:
    """Take a step of two samples on a GPU that is not there; return its operators."""
    precision = options.get("precision", "fp32")
    with fake_cuda(monkeypatch):
        task = task_config.build_task(fields, {}, seed=0, device=GPU)
        for frozen in task.frozen():
            frozen.allocate(GPU)
        strategies = {
            name: SingleConfig().build(player, task.optimizers[name], precision, 1, Ranks(0, 1, 0, GPU))
            for name, player in task.players.items()
        }
        draws = Draws(1, torch.arange(2, device=GPU), "data")
        batches = [random_batch(fields, draws)] * task.batches_per_step
        with Operators() as operators:
            result = take_step(task, strategies, batches, Progress(1000, 2), micro_batch=2, global_batch=2)
        told = [value for stats in result.stats for value in stats.values() if isinstance(value, torch.Tensor)]
        weights = [value for player in task.players.values() for value in player.state_dict().values()]
        assert {value.device for value in (*told, *weights)} == {GPU}
    return operators


def check(operators: Operators) -> None:
    assert operators.on_host == []
    assert sorted(set(operators.names) & NOT_REPEATABLE) == []


def synthesis(**config: Any) -> SynthesisConfig:
    return parse_config(SynthesisConfig, {"generator": MLP, "discriminator": MLP, **COMMON, **config}, source="test")


def works_on_images(union: Any) -> list[str]:
    return [kind for kind, family in union.items() if family.works_on is ImageSpec]


@pytest.mark.parametrize("kind", sorted({*works_on_images(GENERATORS)} - {"eg3d"}))
def test_generators(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check(take(synthesis(generator=network(kind)), CLASSES, monkeypatch))


def test_views(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: True)
    _, config, fields = TASKS["views"]
    check(take(parse_config(SynthesisConfig, config, source="test"), fields, monkeypatch))


def test_stylegan3_that_knows_no_direction(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its filters are no products of two lines: how many terms they have depends on their values, here too."""
    generator = {"kind": "stylegan3", "variant": "r", "layers": 6, "channel_base": 256, "channel_max": 16}
    check(take(synthesis(generator=generator), fields_of(ImageSpec(16, 3, 5)), monkeypatch))


@pytest.mark.parametrize("kind", works_on_images(DISCRIMINATORS))
def test_discriminators(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check(take(synthesis(discriminator=network(kind)), CLASSES, monkeypatch))


@pytest.mark.parametrize("kind", sorted({*GENERATORS} - {*works_on_images(GENERATORS)}))
def test_families_of_other_samples(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = OTHER_SAMPLES.get(kind, SOUNDS)
    known = dict(DISCRIMINATORS.items())[kind].model_fields
    discriminator = {name: value for name, value in network(kind).items() if name in known}
    check(take(synthesis(generator=network(kind), discriminator=discriminator), samples, monkeypatch))


def test_every_family_of_other_samples_is_a_pair() -> None:
    assert {*GENERATORS} - {*works_on_images(GENERATORS)} == {*DISCRIMINATORS} - {*works_on_images(DISCRIMINATORS)}


@pytest.mark.parametrize("kind", sorted({*works_on_images(TRANSLATORS)} - {"label_map"}))
def test_translators(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = {"generator": network(kind), "discriminator": PATCH, **COMMON}
    config["objective"] = {"terms": {"l1": {}}}
    scale = 4 if kind in ("rrdb", "srresnet") else 1
    channels = {"lab_colouriser": 1, "edge_inpainter": 4, "gated_inpainter": 4}.get(kind, 3)
    fields = {"input": FieldSpec("image", (channels, 32 // scale, 32 // scale), "uint8"), "target": IMAGE}
    if kind == "edge_inpainter":
        fields["edges"] = FieldSpec("image", (1, 32, 32), "uint8")
        config["first_stage"] = {"target": "edges", "objective": {"terms": {"l1": {}}}}
    config["conditional"] = scale == 1
    check(take(parse_config(TranslationConfig, config, source="test"), fields, monkeypatch))


def test_label_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    objective = {"adversarial": "hinge", "terms": {"feature_matching": {"distance": "l1"}}}
    fields = {"input": FieldSpec("image", (1, 32, 32), "uint8"), "target": IMAGE}
    config = parse_config(TranslationConfig, {**LABEL_MAPS, "objective": objective, **COMMON}, source="test")
    check(take(config, fields, monkeypatch))


def test_vocoders(monkeypatch: pytest.MonkeyPatch) -> None:
    mel = {"rate": 8000, "n_fft": 256, "hop": 64, "window": 256, "bands": 16}
    small = {"periods": [2, 3], "period_widths": [4, 8], "scales": 2, "scale_widths": [16, 16, 16, 16, 16, 16, 16]}
    config = {"generator": network("hifigan"), "discriminator": {"kind": "hifigan", **small}, **COMMON}
    config["objective"] = {
        "adversarial": "least_squares",
        "terms": {"mel": mel, "feature_matching": {"distance": "l1"}},
    }
    fields = {"input": FieldSpec("array", (16, 16), "float32"), "target": FieldSpec("audio", (1, 1024), "int16")}
    check(take(parse_config(TranslationConfig, {**config, "conditional": False}, source="test"), fields, monkeypatch))


def test_frame_prediction(monkeypatch: pytest.MonkeyPatch) -> None:
    config, fields = {"objective": {"adversarial": "hinge", "terms": {"l1": {}}}, **COMMON}, {}
    for name, small in (("generator", {"encoder_width": 2}), ("discriminator", {"frames": 2})):
        config[name] = {"kind": "dvdgan_fp", "width": 2, **small}
    for name, frames in (("input", 2), ("target", 3)):
        fields[name] = FieldSpec("video", (frames, 3, 64, 64), "uint8")
    check(take(parse_config(TranslationConfig, config, source="test"), fields, monkeypatch))


def test_every_translator_of_other_samples_is_tried() -> None:
    assert {*TRANSLATORS} - {*works_on_images(TRANSLATORS)} == {"hifigan", "dvdgan_fp"}
    assert {*PATCH_DISCRIMINATORS} - {*works_on_images(PATCH_DISCRIMINATORS)} == {"hifigan", "dvdgan_fp"}


@pytest.mark.parametrize("kind", sorted({*works_on_images(PATCH_DISCRIMINATORS)} - {"label_map", "multi_scale_patch"}))
def test_patch_discriminators(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = {"generator": UNET, "discriminator": network(kind), **COMMON}
    config["objective"] = {"adversarial": "least_squares", "terms": {"identity": {}}, "pool": 4}
    check(take(parse_config(UnpairedConfig, config, source="test"), DOMAINS, monkeypatch))


@pytest.mark.parametrize(
    "name", sorted(UnpairedTermsConfig.model_fields.keys() - TranslationTermsConfig.model_fields.keys())
)
def test_terms_of_unpaired_translation(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = {"generator": network("resnet_translator"), "discriminator": {**PATCH, "norm": "none"}, **COMMON}
    config["objective"] = {"terms": {"cycle": None, name: TERMS.get(name, {})}, "pool": 4}
    check(take(parse_config(UnpairedConfig, config, source="test"), DOMAINS, monkeypatch))


@pytest.mark.parametrize("name", [*TermsConfig.model_fields, *OTHER_TERMS.foreign()])
def test_terms(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    objective = {"terms": {name: TERMS.get(name, {})}}
    networks = {"generator": network("biggan")} if name == "orthogonal" else STYLEGAN2
    check(take(synthesis(**networks, objective=objective), CLASSES, monkeypatch))


@pytest.mark.parametrize("name", [name for name in TranslationTermsConfig.model_fields if name != "mel"])  # of sounds
def test_terms_of_translation(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = {"generator": UNET, "discriminator": {**PATCH, "norm": "none"}, **COMMON}
    config["objective"] = {"terms": {name: TERMS.get(name, {})}}
    check(take(parse_config(TranslationConfig, config, source="test"), PAIRS, monkeypatch))


@pytest.mark.parametrize("kind", [get_args(one.model_fields["kind"].annotation)[0] for one in AUGMENTATIONS])
def test_augmentations(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    augment = {"kind": kind, **({"transforms": "bgcfnc"} if kind == "ada" else {})}
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: True)
    if kind == "phase_shift":  # of sounds
        networks = {"generator": network("wavegan"), "discriminator": network("wavegan")}
        check(take(synthesis(augment=augment, **networks), SOUNDS, monkeypatch))
    else:
        check(take(synthesis(augment=augment), CLASSES, monkeypatch))


@pytest.mark.parametrize("game", GAMES)
def test_games(game: str, monkeypatch: pytest.MonkeyPatch) -> None:
    objective = {"adversarial": game, "n_critic": 2, "instance_noise": 0.1, "top_k": 0.5}
    if game == "wasserstein":
        objective["weight_clip"] = 0.1
    if "relativistic" in game:
        del objective["top_k"]
    check(take(synthesis(objective=objective), CLASSES, monkeypatch))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    optimizer = OPTIMIZERS[name].model_dump(mode="json")
    check(take(synthesis(optim={"G": optimizer, "D": optimizer}), CLASSES, monkeypatch))


@pytest.mark.parametrize("precision", ["bf16", "pure_bf16", "fp16"])
def test_precisions(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    objective = {"style_mixing": 0.9, "terms": {"r1": {"gamma": 1.0}, "path_length": {}}}
    config = synthesis(**STYLEGAN2, objective=objective)
    check(take(config, fields_of(ImageSpec(8, 3, 5)), monkeypatch, precision=precision))


def test_stylisation(monkeypatch: pytest.MonkeyPatch) -> None:
    config = {"generator": {"kind": "adain", "width": 4}, "discriminator": PATCH, **COMMON}
    fields = {"content.image": IMAGE, "style.image": IMAGE}
    check(take(parse_config(StylisationConfig, config, source="test"), fields, monkeypatch))


def test_every_task_is_tested() -> None:
    """A new task: give it a test like those of the translators here."""
    assert set(TRAININGS) == {"synthesis", "translation", "unpaired", "stylisation"}
