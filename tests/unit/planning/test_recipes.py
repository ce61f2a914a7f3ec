"""The papers' recipes: each builds, plans as its header says, and takes two real steps at reduced width."""

import re

import pytest
import torch

from bigtrain.config import TrainingConfig, load_training
from bigtrain.models import DISCRIMINATORS, GENERATORS, PATCH_DISCRIMINATORS, STYLISERS, TRANSLATORS, ImageSpec
from bigtrain.planning.hardware import Cluster, find_gpu, load_hardware
from bigtrain.planning.plan import Plan, make_plan
from tests.conftest import ROOT
from tests.recipes import RECIPES
from tests.training import Training

BIGGAN = ["generator.width=8", "discriminator.width=8"]
STYLEGAN = [
    f"{network}.channel_{limit}" for network in ("generator", "discriminator") for limit in ("base=2048", "max=16")
]
NARROW = {
    "biggan-imagenet128": BIGGAN,
    "biggan-deep-imagenet512": BIGGAN,
    "stylegan2-ffhq1024": [*STYLEGAN, "generator.w_dim=32", "generator.z_dim=32"],
    "stylegan3-t-ffhq1024": [*STYLEGAN, "generator.w_dim=32", "generator.z_dim=32"],
    "r3gan-imagenet64": [
        f"{network}.{key}"
        for network in ("generator", "discriminator")
        for key in ("widths=[32,32,32,32,32]", "groups=[2,2,2,2,2]", "blocks=[1,1,1,1,1]")
    ],
}
"""Of each recipe, what makes its networks narrow."""
OTHER_TASKS = (
    "biggan-fashion32",
    "pix2pix-emoji64",
    "pix2pix-earth64",
    "pix2pix-256",
    "cyclegan-emoji64",
    "cyclegan-256",
    "cut-emoji64",
    "cut-256",
    "adain-photos64",
    "adain-256",
    "colour-emoji64",
    "inpaint-emoji64",
    "edgeconnect-emoji64",
    "spade-earth64",
    "srgan-photos64",
    "esrgan-photos64",
    "hifigan-prompts8k",
    "wavegan-drums8k",
    "gan3d-shapes32",
    "gan3d-solids32",
    "rgan-solids512",
    "specgan-drums8k",
    "gansynth-notes8k",
    "mocogan-motions32",
    "eg3d-solids64",
    "tgan-motions32",
    "dvdgan-motions32",
    "dvdgan-fp-motions32",
)
"""Recipes whose steps are tested elsewhere: in tests/unit/tasks and tests/distributed."""
FAMILIES = (
    "gan-mnist28",
    "cgan-mnist28",
    "dcgan-lsun64",
    "improved-gan-cifar32",
    "wgan-gp-lsun64",
    "sngan-cifar32",
    "sagan-imagenet128",
    "progan-celebahq1024",
    "stylegan1-ffhq1024",
    "vitgan-cifar32",
    "wavegan-sc09",
    "gansynth-nsynth16k",
    "rgan-shapes2048",
    "mocogan-clips64",
    "eg3d-ffhq512",
    "tgan-ucf64",
    "dvdgan-kinetics64",
    "multiscale-lsun128",
    "pixelgan-256",
    "real-esrgan-256",
    "esrgan-128",
    "colour-imagenet256",
    "spade-ade20k256",
    "inpaint-places256",
    "edgeconnect-places256",
)
"""Recipes of the other network families, whose steps are tested with them: they build and have a plan."""


def recipe(name: str, *overrides: str) -> TrainingConfig:
    return load_training(str(RECIPES[name]), list(overrides))


def planned(name: str) -> tuple[str, Plan]:
    """Return the header's figures, and the plan for the cluster that it names."""
    text = " ".join(line.lstrip("# ") for line in RECIPES[name].read_text().splitlines())
    found = re.search(r"Plan, (\d+) x (\d+) (\w+): (.*?)\. \(bigtrain plan\)", text)
    assert found, f"{name}: its header has no plan"
    nodes, cards, gpu, figures = found.groups()
    known = load_hardware()
    card = find_gpu(known, gpu)
    cluster = Cluster(card, known.assumed, int(nodes), int(cards), card.network_gbit_s * 1e9 / 8)
    return figures, make_plan(recipe(name), cluster)


def test_all_recipes_are_here() -> None:
    assert RECIPES.keys() == {"quickstart", *NARROW, *OTHER_TASKS, *FAMILIES}


def test_a_recipe_is_in_the_folder_of_its_task() -> None:
    for name, path in RECIPES.items():
        assert path.parent.name == (recipe(name).task if name != "quickstart" else "configs")


def test_every_network_has_a_recipe() -> None:
    used: set[tuple[str, str]] = set()
    for name in RECIPES:
        document = recipe(name).model_dump(mode="json")
        for part in ("generator", "discriminator"):
            config = document[part]
            while config is not None:  # a discriminator may be made of another one
                used.add((part, config["kind"]))
                config = config.get("base")
    ours = {
        *(
            ("generator", kind)
            for union in (GENERATORS, TRANSLATORS, STYLISERS)
            for kind in union.keys() - union.foreign()
        ),
        *(
            ("discriminator", kind)
            for one in (DISCRIMINATORS, PATCH_DISCRIMINATORS)
            for kind in one.keys() - one.foreign()
        ),
    }
    assert sorted(ours - used) == []


@pytest.mark.parametrize("name", [*NARROW, *OTHER_TASKS, *FAMILIES])
def test_builds_on_the_meta_device(name: str) -> None:
    config = recipe(name)
    with torch.device("meta"):
        networks = {part: spec.build() for part, spec in config.networks(config.data.field_specs()).items()}
    config.check_task(networks, micro_batch=config.micro_batch_size)


@pytest.mark.parametrize(
    "name",
    [
        "biggan-imagenet128",
        "pix2pix-256",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in [*list(NARROW)[1:], "cyclegan-256", "cut-256", "adain-256", *FAMILIES]
        ),
    ],
)
def test_plans_as_its_header_says(name: str) -> None:
    figures, plan = planned(name)
    assert figures == plan.in_words()
    assert plan.own.fits and plan.own.refused is None


@pytest.mark.parametrize("name", NARROW)
def test_trains_two_steps_narrow_and_small(name: str, alone: None) -> None:
    _train(name, small=True)


@pytest.mark.slow
@pytest.mark.timeout(1200)  # StyleGAN3 at 1024 pixels takes minutes on one core
@pytest.mark.parametrize("name", NARROW)
def test_trains_two_steps_narrow(name: str, alone: None) -> None:
    _train(name, small=False)


def _train(name: str, *, small: bool) -> None:
    config = recipe(name, *NARROW[name])
    document = config.model_dump(mode="json")
    parts = {key: document[key] for key in ("generator", "discriminator", "objective", "augment", "optim")}
    spec, *_ = config.networks(config.data.field_specs())["G"].data
    assert spec is not None
    image = spec
    if small:
        image = ImageSpec(64 if "r3gan" in name else 32, image.channels, 10 if image.classes else 0)
    training = Training(parts, image, global_batch=4, micro_batch=4, precision=config.precision)
    after = training.run(2)
    assert all(value.isfinite().all() for value in after["weights"].values())
    moved = {key for key, value in after["weights"].items() if not torch.equal(value, after["start"][key])}
    assert {key[0] for key in moved} == {"D", "G"}


@pytest.mark.parametrize("name", NARROW)
def test_the_documentation_has_the_headers_figures(name: str) -> None:
    text = " ".join(line.lstrip("# ") for line in RECIPES[name].read_text().splitlines())
    figures = r"([^,]+ GiB per GPU), (\S+ img/s) \(.*?\), (\S+ hours), (\S+ GPU-hours)"
    header = re.search(rf"Plan, (\d+ x \d+ \w+): .*?, {figures}", text)
    page = (ROOT / "docs" / "how-to" / "planning.md").read_text()
    row = re.search(rf"\| `{name}` \|.*\| (\d+ x \d+ \w+): (.*), (.*), (.*), (.*) \|", page)
    assert header and row and header.groups() == row.groups()
