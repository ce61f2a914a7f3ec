from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from bigtrain.core.config import ConfigError
from bigtrain.generate.init_from import InitFromConfig
from bigtrain.generate.snapshot import SnapshotError, load_snapshot, save_snapshot
from bigtrain.models import ImageSpec
from bigtrain.models.stylegan2 import StyleGAN2DiscriminatorConfig, StyleGAN2GeneratorConfig

G_CONFIG = StyleGAN2GeneratorConfig(z_dim=8, w_dim=8, mapping_layers=1, channel_base=64, channel_max=8)
D_CONFIG = StyleGAN2DiscriminatorConfig(channel_base=64, channel_max=8)
IMAGE = ImageSpec(16, 3)


def networks(image: ImageSpec = IMAGE, **options: int) -> dict[str, nn.Module]:
    return {
        "generator": G_CONFIG.model_copy(update=options).build(image),
        "discriminator": D_CONFIG.model_copy(update=options).build(image),
    }


@pytest.fixture
def source(tmp_path: Path) -> tuple[str, dict[str, nn.Module]]:
    built = networks()
    folder = tmp_path / "snapshot"
    judge = (D_CONFIG, built["discriminator"])
    save_snapshot(folder, built["generator"], G_CONFIG, class_names=(), facts={"kimg": 1}, discriminator=judge)
    return str(folder), built


def test_networks_start_from_the_snapshot_and_stages_freeze(source) -> None:
    folder, theirs = source
    assert load_snapshot(folder).description == {"kimg": 1}, "the discriminator is not in the way"
    ours = networks()
    start = InitFromConfig(snapshot=folder, freeze_d=1)
    start.check(ours, IMAGE)
    start.load(ours)
    for part, network in ours.items():
        for name, value in network.state_dict().items():
            assert torch.equal(value, theirs[part].state_dict()[name])
    for name, parameter in ours["discriminator"].named_parameters():
        assert parameter.requires_grad != name.startswith("b16."), name
    assert all(parameter.requires_grad for parameter in ours["generator"].parameters())


@pytest.mark.parametrize(
    ("image", "options", "words"),
    [
        (ImageSpec(32, 3), {}, r"has resolution \(16, 16\), data.resolution is \(32, 32\)"),
        (ImageSpec(16, 1), {}, "has channels 3, data.channels is 1"),
        (ImageSpec(16, 3, 4), {}, "has classes 0, data.classes is 4"),
        (IMAGE, {"channel_max": 4}, "generator mapping.fc0|generator synthesis.b16.conv0.affine.bias is 8 in .*, 4 in"),
        (IMAGE, {"mapping_layers": 2}, "generator mapping.fc1.bias is missing in .*, 8 in this config"),
    ],
)
def test_a_misfit_is_one_clear_line(source, image: ImageSpec, options: dict[str, int], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        InitFromConfig(snapshot=source[0]).check(networks(image, **options), image)
    assert "\n" not in str(caught.value)


def test_what_is_not_there_is_named(source, tmp_path: Path) -> None:
    folder, built = source
    with pytest.raises(ConfigError, match="has 2 stages"):
        InitFromConfig(snapshot=folder, freeze_d=4).check(networks(), IMAGE)
    with pytest.raises(ValidationError, match="random weights"):
        InitFromConfig(snapshot=folder, parts=("generator",), freeze_d=1)
    with pytest.raises(ConfigError, match="this task has no discriminator"):
        InitFromConfig(snapshot=folder).check({"generator": built["generator"]}, IMAGE)
    (Path(folder) / "discriminator.safetensors").unlink()
    with pytest.raises(SnapshotError, match="holds no discriminator"):
        InitFromConfig(snapshot=folder).check(networks(), IMAGE)
    with pytest.raises(SnapshotError, match="not a snapshot folder"):
        InitFromConfig(snapshot=str(tmp_path / "none")).check(networks(), IMAGE)
