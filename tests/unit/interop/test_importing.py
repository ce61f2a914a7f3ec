"""Others' files become snapshots whose networks compute what the files' networks do.

The files are made here from our own networks, in the others' layouts: no real file has been read by these tests.
"""

import argparse
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from typer.testing import CliRunner

from bigtrain.cli import app
from bigtrain.generate.snapshot import load_snapshot
from bigtrain.interop.errors import InteropError
from bigtrain.interop.importing import import_weights
from bigtrain.interop.rosinality import rosinality_name
from bigtrain.models import ImageSpec
from bigtrain.models.biggan import BigGANDiscriminatorConfig, BigGANGeneratorConfig
from bigtrain.models.biggan_deep import BigGANDeepDiscriminatorConfig, BigGANDeepGeneratorConfig
from bigtrain.models.stylegan2 import StyleGAN2DiscriminatorConfig, StyleGAN2GeneratorConfig
from bigtrain.models.stylegan3 import StyleGAN3GeneratorConfig
from tests.numerics import golden
from tests.unit.interop.nvidia_pickles import EasyDict, dumps, evil, stylegan2

WIDTHS = {"channel_base": 256, "channel_max": 16}


def same_images(folder: Path, generator: nn.Module) -> bool:
    z, label = torch.randn(2, generator.z_dim), torch.tensor([0, 1])
    with torch.no_grad():
        found = load_snapshot(folder).generator(z, label, truncation=0.7)
        return torch.equal(found, generator.eval()(z, label, truncation=0.7))


def same_judge(folder: Path, discriminator: nn.Module) -> bool:
    found, own = load_file(folder / "discriminator.safetensors"), discriminator.state_dict()
    return found.keys() == own.keys() and all(torch.equal(found[name], own[name]) for name in own)


@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("architecture", ["orig", "skip", "resnet"])
def test_nvidias_stylegan2(tmp_path: Path, classes: int, architecture) -> None:
    image = ImageSpec(32, 3, classes)
    G = StyleGAN2GeneratorConfig(
        z_dim=8, w_dim=12, mapping_layers=3, architecture=architecture, conv_clamp=256.0, **WIDTHS
    ).build(image)
    D = StyleGAN2DiscriminatorConfig(architecture=architecture, mbstd_group=2, conv_clamp=256.0, **WIDTHS).build(image)
    G.w_avg.normal_()
    marker = tmp_path / "ran"
    content = {
        "training_set_kwargs": EasyDict(class_name="training.dataset.ImageFolderDataset", path="x.zip"),
        "G": stylegan2(G, {}),
        "D": stylegan2(D, {"b4.mbstd": {"group_size": 2}, "b32.conv0": {"conv_clamp": 256}}),
        "G_ema": stylegan2(G, {"synthesis.b8.conv1": {"conv_clamp": 256}}, src=f"open({str(marker)!r}, 'w')"),
        "augment_pipe": None,
    }
    (tmp_path / "network.pkl").write_bytes(dumps(content))
    told = import_weights(tmp_path / "network.pkl", tmp_path / "snap", discriminator=None, settings={})
    assert [line.split(",")[0] for line in told] == ["G: stylegan2", "D: stylegan2"]
    assert same_images(tmp_path / "snap", G)
    assert same_judge(tmp_path / "snap", D)
    assert load_snapshot(tmp_path / "snap").class_names == tuple("012"[:classes])
    assert not marker.exists()


@pytest.mark.parametrize("variant", ["t", "r"])
def test_nvidias_stylegan3(tmp_path: Path, variant) -> None:
    image = ImageSpec(32, 3)
    G = StyleGAN3GeneratorConfig(variant=variant, z_dim=8, w_dim=12, channel_base=1024, channel_max=16, layers=6)
    D = StyleGAN2DiscriminatorConfig(mbstd_group=4, conv_clamp=256.0, channel_base=1024, channel_max=16).build(image)
    options: dict[str, Any] = {"num_layers": 6, "channel_base": 1024, "channel_max": 16, "img_resolution": 32}
    if variant == "r":
        options |= {"conv_kernel": 1, "use_radial_filters": True}
    network = G.build(image)
    content = {
        "G_ema": stylegan2(network, {"": {"_init_kwargs": EasyDict(options)}}),
        "D": stylegan2(D, {"b4.mbstd": {"group_size": 4}, "b32.conv0": {"conv_clamp": 256}}),
    }
    (tmp_path / "network.pkl").write_bytes(dumps(content))
    import_weights(tmp_path / "network.pkl", tmp_path / "snap", discriminator=None, settings={})
    assert same_images(tmp_path / "snap", network)
    assert same_judge(tmp_path / "snap", D)


@pytest.mark.parametrize("name", ["biggan-res32", "biggan-res64-hier-attn", "biggan-deep-res32", "r3gan-res32-cond"])
def test_published_state_dicts(tmp_path: Path, name: str) -> None:
    """The golden folders carry the published names: what a file's shapes tell gives the golden images."""
    folder = golden.folder(name)
    weights, io = load_file(folder / "weights.safetensors"), load_file(folder / "io.safetensors")
    for part in ("G", "D"):
        state = {key[2:]: value for key, value in weights.items() if key.startswith(f"{part}.")}
        torch.save(state, tmp_path / f"{part}.pth")
    import_weights(tmp_path / "G.pth", tmp_path / "snap", discriminator=tmp_path / "D.pth", settings={})
    images = load_snapshot(tmp_path / "snap").generator(io["z"], io["y"] if "y" in io else io["c"])
    torch.testing.assert_close(images, io["img"], rtol=1e-4, atol=1e-4 * io["img"].abs().max().item())


@pytest.mark.parametrize("size", [32, 128, 256, 512])
def test_biggans_of_all_sizes(tmp_path: Path, size: int) -> None:
    image = ImageSpec(size, 3, 4)
    shape: dict[str, Any] = {"z_dim": 40, "width": 8, "attention": (64,) if size > 64 else (), "shared_dim": 8}
    for config, judge in (
        (BigGANGeneratorConfig(hierarchical=True, **shape), BigGANDiscriminatorConfig(width=8)),
        (BigGANDeepGeneratorConfig(**shape), BigGANDeepDiscriminatorConfig(width=8)),
    ):
        with torch.device("meta"):
            parts = {"G": config.build(image), "D": judge.build(image)}
        content = {
            key: {name: torch.zeros(value.shape) for name, value in parts[key[0]].state_dict().items()}
            for key in ("G_ema", "D")
        }
        torch.save(content, tmp_path / "both.pth")
        out = tmp_path / config.kind
        import_weights(tmp_path / "both.pth", out, discriminator=None, settings={})
        found = load_snapshot(out).generator
        assert {name: value.shape for name, value in found.state_dict().items()} == {
            name: value.shape for name, value in parts["G"].state_dict().items()
        }


def rosinality(published: dict[str, Tensor], names: list[str], top: int) -> dict[str, Tensor]:
    """Write published weights under the port's names, with the axes that it keeps."""
    state = {}
    for name in names:
        last = name.rpartition(".")[2]
        if last == "kernel":
            state[name[2:]] = torch.full((4, 4), 4.0)
            continue
        value = published[rosinality_name(name, top)]
        if name.endswith("conv.weight") and name.startswith("G."):
            value = value[None]
        elif ".noises." in name or (name.startswith(("G.to_rgb",)) and last == "bias" and "modulation" not in name):
            value = value[None, None] if ".noises." in name else value[None, :, None, None]
        elif name == "G.input.input" or name == "G.latent_avg":
            value = value[None]
        elif name.endswith("noise.weight"):
            value = value.reshape(1)
        state[name[2:]] = value
    return state


def test_rosinalitys_stylegan2(tmp_path: Path) -> None:
    image = ImageSpec(16, 3)
    taps = (1.0, 1.0, 1.0, 1.0)
    G = StyleGAN2GeneratorConfig(z_dim=12, w_dim=12, mapping_layers=2, taps=taps, **WIDTHS).build(image)
    D = StyleGAN2DiscriminatorConfig(taps=taps, **WIDTHS).build(image)
    G.w_avg.normal_()
    published = {f"G.{name}": value for name, value in G.state_dict().items()}
    published |= {f"D.{name}": value for name, value in D.state_dict().items()}
    published["G.mapping.w_avg"] = published.pop("G.w_avg")
    modulated = ("conv.weight", "conv.modulation.weight", "conv.modulation.bias")
    layer = (*modulated, "noise.weight", "activate.bias")
    names = ["style.1.weight", "style.1.bias", "style.2.weight", "style.2.bias", "input.input"]
    names += [f"conv1.{name}" for name in layer] + [f"to_rgb1.{name}" for name in (*modulated, "bias")]
    names += [f"convs.{index}.{name}" for index in range(4) for name in layer]
    names += [f"convs.{index}.conv.blur.kernel" for index in (0, 2)]
    names += [f"to_rgbs.{index}.{name}" for index in range(2) for name in (*modulated, "bias", "upsample.kernel")]
    names += [f"noises.noise_{index}" for index in range(5)]
    block = ("conv1.0.weight", "conv1.1.bias", "conv2.0.kernel", "conv2.1.weight", "conv2.2.bias")
    judge = ["convs.0.0.weight", "convs.0.1.bias", "final_conv.0.weight", "final_conv.1.bias"]
    judge += [f"convs.{index}.{name}" for index in (1, 2) for name in (*block, "skip.0.kernel", "skip.1.weight")]
    judge += [f"final_linear.{index}.{name}" for index in (0, 1) for name in ("weight", "bias")]
    content = {
        "g_ema": rosinality(published, [f"G.{name}" for name in names], 16),
        "d": rosinality(published, [f"D.{name}" for name in judge], 16),
        "latent_avg": G.w_avg[None],
    }
    torch.save(content, tmp_path / "stylegan2.pt")
    import_weights(tmp_path / "stylegan2.pt", tmp_path / "snap", discriminator=None, settings={})
    assert same_images(tmp_path / "snap", G)
    assert same_judge(tmp_path / "snap", D)

    del content["latent_avg"]
    torch.save(content, tmp_path / "stylegan2.pt")
    import_weights(tmp_path / "stylegan2.pt", tmp_path / "mean", discriminator=None, settings={})
    mean = load_snapshot(tmp_path / "mean").generator.w_avg
    assert 0.01 < mean.norm() < 10.0
    assert not torch.equal(mean, G.w_avg)

    # As the port's own training saves it, with its arguments and optimizers.
    optimizer = {"state": {}, "param_groups": [{"lr": 0.002, "params": [0]}]}
    arguments = argparse.Namespace(size=16, path="x", wandb=True)
    torch.save({**content, "g_optim": optimizer, "args": arguments, "ada_aug_p": 0.1}, tmp_path / "010000.pt")
    import_weights(tmp_path / "010000.pt", tmp_path / "trained", discriminator=None, settings={})
    assert same_judge(tmp_path / "trained", D)
    torch.save({**content, "args": argparse.Namespace(a=evil("os", "system", "false"))}, tmp_path / "evil.pt")
    with pytest.raises(InteropError, match="system, which is not data"):
        import_weights(tmp_path / "evil.pt", tmp_path / "evil", discriminator=None, settings={})

    # As it is often published, without its noise.
    content["g_ema"] = {name: value for name, value in content["g_ema"].items() if not name.startswith("noises.")}
    torch.save(content, tmp_path / "bare.pt")
    said = import_weights(tmp_path / "bare.pt", tmp_path / "bare", discriminator=None, settings={})
    assert said[0] == "noise constants: 5 are not in the file, and are drawn with seed 0"
    bare, whole = (load_file(tmp_path / name / "generator.safetensors") for name in ("bare", "mean"))
    assert {name for name in whole if not torch.equal(bare[name], whole[name])} == {
        name for name in whole if name.endswith("noise_const")
    }


def test_refusals_are_one_clear_line(tmp_path: Path) -> None:
    network = StyleGAN2GeneratorConfig(z_dim=8, w_dim=8, **WIDTHS).build(ImageSpec(16, 3))
    files = {
        "evil.pkl": dumps({"G_ema": evil("os", "system", f"touch {tmp_path / 'ran'}")}),
        "other.pkl": dumps({"generator": 1}),
        "silent.pkl": dumps({"G_ema": stylegan2(network, {})}),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    torch.save({"a": torch.ones(1)}, tmp_path / "other.pth")
    torch.save({"a": evil("os", "system", f"touch {tmp_path / 'ran'}")}, tmp_path / "evil.pth")
    expected = {
        "evil.pkl": "system, which is not data",
        "evil.pth": "system, which is not data",
        "other.pkl": "contains no G_ema",
        "other.pth": "its names are not those of BigGAN",
        "silent.pkl": "does not contain conv_clamp",
        "none.pth": "no such file",
    }
    for name, words in expected.items():
        result = CliRunner().invoke(app, ["import", str(tmp_path / name), "--out", str(tmp_path / "snap")])
        assert isinstance(result.exception, InteropError), name
        assert words in str(result.exception)
        assert "\n" not in str(result.exception)
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "snap").exists()


def test_what_a_file_does_not_tell_can_be_given(tmp_path: Path) -> None:
    network = StyleGAN2GeneratorConfig(z_dim=8, w_dim=8, **WIDTHS).build(ImageSpec(16, 3))
    (tmp_path / "network.pkl").write_bytes(dumps({"G_ema": stylegan2(network, {})}))
    command = ["import", str(tmp_path / "network.pkl"), "--out", str(tmp_path / "snap"), "--set", "conv_clamp=128"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert "G: stylegan2, 16 pixels, no classes" in result.stdout
    assert '"conv_clamp": 128' in (tmp_path / "snap" / "snapshot.json").read_text()
    assert isinstance(CliRunner().invoke(app, command).exception, InteropError), "it is there already"


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors", "w.PKL"])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty: its download may have failed"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a pointer of Git LFS.*git lfs pull"),
        (b"\n<!DOCTYPE html><html>404</html>", "is a web page, not the file"),
        (b"\x1f\x8b\x08\x00more", r"is compressed \(gzip\); unpack it"),
        (b"\0 neither this nor that", "contains more than weights|cannot be read|not a pickle"),
    ],
)
def test_what_a_failed_download_leaves_is_told(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InteropError, match=words) as error:
        import_weights(tmp_path / name, tmp_path / "out", discriminator=None, settings={})
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()
