import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from bigtrain.core.config import Config, ConfigError
from bigtrain.generate.init_from import InitFromConfig
from bigtrain.generate.snapshot import SnapshotError, load_snapshot
from bigtrain.models import ImageSpec
from bigtrain.models.network_spec import NetworkSpec
from bigtrain.models.stylegan2 import StyleGAN2DiscriminatorConfig, StyleGAN2GeneratorConfig
from tests.snapshots import save_generator

G_CONFIG = StyleGAN2GeneratorConfig(z_dim=8, w_dim=8, mapping_layers=1, channel_base=64, channel_max=8)
D_CONFIG = StyleGAN2DiscriminatorConfig(channel_base=64, channel_max=8)
IMAGE = ImageSpec(16, 3)
Built = tuple[dict[str, NetworkSpec], dict[str, nn.Module]]


def networks(image: ImageSpec = IMAGE, **options: int) -> Built:
    configs: dict[str, Config] = {
        "G": G_CONFIG.model_copy(update=options),
        "D": D_CONFIG.model_copy(update=options),
    }
    specs = {
        "G": NetworkSpec("generator", "generator", configs["G"], (image,)),
        "D": NetworkSpec("discriminator", "discriminator", configs["D"], (image,)),
    }
    return specs, {name: spec.build() for name, spec in specs.items()}


@pytest.fixture
def source(tmp_path: Path) -> tuple[str, dict[str, nn.Module]]:
    _, built = networks()
    folder = tmp_path / "snapshot"
    save_generator(folder, built["G"], G_CONFIG, facts={"kimg": 1}, discriminator=(D_CONFIG, built["D"]))
    return str(folder), built


def test_networks_start_from_the_snapshot_and_stages_freeze(source) -> None:
    folder, theirs = source
    assert load_snapshot(folder).description == {"kimg": 1}, "the discriminator is not in the way"
    specs, ours = networks()
    start = InitFromConfig(snapshot=folder, freeze={"D": 1})
    start.check(specs, ours)
    start.load(ours)
    for part, network in ours.items():
        for name, value in network.state_dict().items():
            assert torch.equal(value, theirs[part].state_dict()[name])
    for name, parameter in ours["D"].named_parameters():
        assert parameter.requires_grad != name.startswith("b16."), name
    assert all(parameter.requires_grad for parameter in ours["G"].parameters())


def test_some_parts_are_taken_and_the_others_stay(source) -> None:
    folder, theirs = source
    specs, ours = networks()
    before = {name: value.clone() for name, value in ours["D"].state_dict().items()}
    start = InitFromConfig(snapshot=folder, parts=("G",))
    start.check(specs, ours)
    start.load(ours)
    assert all(torch.equal(value, theirs["G"].state_dict()[name]) for name, value in ours["G"].state_dict().items())
    assert all(torch.equal(value, before[name]) for name, value in ours["D"].state_dict().items())


def test_of_a_run_the_newest_snapshot_is_taken(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").touch()
    with pytest.raises(ConfigError, match="is a run without a snapshot; see snapshot.interval_kimg"):
        InitFromConfig(snapshot=str(run)).check(*networks())
    for kimg in ("kimg000002.000", "kimg000010.000"):
        save_generator(run / "snapshots" / kimg, networks()[1]["G"], G_CONFIG)
    assert InitFromConfig(snapshot=str(run)).folder == run / "snapshots" / "kimg000010.000"


def former(folder: Path) -> None:
    """Rewrite a snapshot as the former format has it: one generator, perhaps a discriminator, and no sampler."""
    document = json.loads((folder / "snapshot.json").read_text())
    specs = document.pop("networks")
    document["image"] = specs["G"]["images"][0]
    document["format"] = "bigtrain-snapshot/1"
    for name, role in (("G", "generator"), ("D", "discriminator")):
        document[role] = specs[name]["config"]
    del document["sampler"]
    (folder / "snapshot.json").write_text(json.dumps(document))


def without_file_names(folder: Path) -> None:
    """Rewrite a snapshot as format 2 had it at first: files are called by their networks' names."""
    document = json.loads((folder / "snapshot.json").read_text())
    for name, network in document["networks"].items():
        (folder / network.pop("weights")).rename(folder / f"{name}.safetensors")
    (folder / "snapshot.json").write_text(json.dumps(document))


@pytest.mark.parametrize("rewrite", [former, without_file_names])
def test_snapshots_of_former_versions_are_taken_too(source, rewrite: Callable[[Path], None]) -> None:
    folder, theirs = source
    images = load_snapshot(folder).sample([3])
    rewrite(Path(folder))
    assert torch.equal(load_snapshot(folder).sample([3]), images)
    specs, ours = networks()
    start = InitFromConfig(snapshot=folder)
    start.check(specs, ours)
    start.load(ours)
    for part, network in ours.items():
        for name, value in network.state_dict().items():
            assert torch.equal(value, theirs[part].state_dict()[name])


@pytest.mark.parametrize(
    ("image", "options", "words"),
    [
        (ImageSpec(32, 3), {}, r"G in .* has shape \(3, 16, 16\), but in this run \(3, 32, 32\)"),
        (ImageSpec(16, 1), {}, r"G in .* has shape \(3, 16, 16\), but in this run \(1, 16, 16\)"),
        (ImageSpec(16, 3, 4), {}, "G in .* has classes 0, but in this run 4"),
        (IMAGE, {"channel_max": 4}, "G mapping.fc0|G synthesis.b16.conv0.affine.bias is 8 in .*, but 4 in"),
        (IMAGE, {"mapping_layers": 2}, "G mapping.fc1.bias is missing in .*, but 8 in this config"),
    ],
)
def test_a_misfit_is_one_clear_line(source, image: ImageSpec, options: dict[str, int], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        InitFromConfig(snapshot=source[0], parts=("G",)).check(*networks(image, **options))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("image", [ImageSpec(16, 3, 4), ImageSpec(32, 3), ImageSpec(16, 1)])
def test_what_fits_is_taken_on_request(source, image: ImageSpec) -> None:
    folder, theirs = source
    specs, ours = networks(image)
    before = {part: {name: v.clone() for name, v in network.state_dict().items()} for part, network in ours.items()}
    start = InitFromConfig(snapshot=folder, only="matching")
    start.check(specs, ours)
    start.load(ours)
    for part, network in ours.items():
        weights = theirs[part].state_dict()
        fits = {name for name, v in weights.items() if name in before[part] and before[part][name].shape == v.shape}
        assert fits
        for name, value in network.state_dict().items():
            assert torch.equal(value, weights[name] if name in fits else before[part][name]), name


def test_nothing_that_fits_is_told(source) -> None:
    specs, _ = networks()
    stranger = {"G": nn.Linear(3, 3)}
    start = InitFromConfig(snapshot=source[0], parts=("G",), only="matching")
    with pytest.raises(ConfigError, match="no weight of G in .* fits"):
        start.check(specs, stranger)
    with pytest.raises(ConfigError, match="init_from.only=matching loads what fits"):
        InitFromConfig(snapshot=source[0], parts=("G",)).check(*networks(ImageSpec(32, 3)))


def without_weights_of_d(folder: Path) -> None:
    (folder / "discriminator.safetensors").unlink()


def without_d(folder: Path) -> None:
    document = json.loads((folder / "snapshot.json").read_text())
    del document["networks"]["D"]
    (folder / "snapshot.json").write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("options", "damage", "error", "words"),
    [
        ({"freeze": {"D": 4}}, None, ConfigError, "has 2 stages"),
        ({"parts": ("G",), "freeze": {"D": 1}}, None, ConfigError, "would freeze random weights"),
        ({"freeze": {"E": 1}}, None, ConfigError, "init_from.freeze: this run has no network 'E', it has D, G"),
        ({"parts": ("G", "E")}, None, ConfigError, "init_from.parts: this run has no network 'E', it has D, G"),
        ({}, without_weights_of_d, SnapshotError, "contains no weights of D, discriminator.safetensors is missing"),
        ({}, without_d, ConfigError, r"contains no D \(it contains G\); list the networks to load in parts"),
    ],
)
def test_what_is_not_there_is_named(
    source,
    options: dict[str, Any],
    damage: Callable[[Path], None] | None,
    error: type[Exception],
    words: str,
) -> None:
    folder = source[0]
    if damage is not None:
        damage(Path(folder))
    with pytest.raises(error, match=words):
        InitFromConfig(snapshot=folder, **options).check(*networks())


def test_a_folder_that_is_no_snapshot_is_named(tmp_path: Path) -> None:
    with pytest.raises(SnapshotError, match="not a snapshot folder"):
        InitFromConfig(snapshot=str(tmp_path / "none")).check(*networks())


def test_parts_may_have_their_former_names() -> None:
    assert InitFromConfig(snapshot="x", parts=("generator", "E")).parts == ("G", "E")
