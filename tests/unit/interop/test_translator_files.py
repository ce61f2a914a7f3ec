"""Checkpoints of pix2pix, CycleGAN, ESRGAN and SRGAN: the golden folders carry the published names."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from typer.testing import CliRunner

from bigtrain.cli import app
from bigtrain.core.rng import Draws
from bigtrain.generate.snapshot import load_snapshot
from bigtrain.interop.errors import InteropError
from bigtrain.interop.load import build_networks
from bigtrain.interop.state_dicts import read_state_dicts
from tests.numerics import golden


def _save(file: Path, weights: Mapping[str, Tensor], part: str) -> None:
    """Write one network of a golden folder as the reference implementation does: a state dict without the part."""
    torch.save({key.removeprefix(f"{part}."): one for key, one in weights.items() if key.startswith(f"{part}.")}, file)


@pytest.mark.parametrize(
    ("name", "parts", "images", "conditional"),
    [
        ("pix2pix-unet64-batch", ("G", "D"), ("real_A", "fake_B"), True),
        ("pix2pix-unet64-instance", ("G", "D"), ("real_A", "fake_B"), True),
        ("cyclegan-resnet64", ("G_A", "D_A"), ("real_A", "fake_B"), False),
        ("cyclegan-resnet64", ("G_B", "D_B"), ("real_B", "fake_A"), False),
    ],
)
def test_what_a_files_shapes_tell_gives_the_golden_images(
    tmp_path: Path, name: str, parts: tuple[str, str], images: tuple[str, str], conditional: bool
) -> None:
    folder = golden.folder(name)
    weights, io = load_file(folder / "weights.safetensors"), load_file(folder / "io.safetensors")
    for part in parts:
        _save(tmp_path / f"{part}.pth", weights, part)
    foreign = read_state_dicts(tmp_path / f"{parts[0]}.pth", tmp_path / f"{parts[1]}.pth")
    assert foreign.untold == (set() if "unet" in name else {"resolution"})
    networks = build_networks(foreign.peer, {"resolution": 64, **foreign.settings}, foreign.weights)
    made = networks["G"].network(io[images[0]])
    torch.testing.assert_close(made, io[images[1]], rtol=0.0, atol=1e-4)
    assert (networks["D"].network.condition is not None) == conditional


def test_statistics_that_old_files_hold_of_instance_normalisation_are_left_out(tmp_path: Path) -> None:
    folder = golden.folder("pix2pix-unet64-instance")
    weights, io = load_file(folder / "weights.safetensors"), load_file(folder / "io.safetensors")
    _save(tmp_path / "old.pth", {**weights, "G.model.model.1.model.2.running_mean": torch.zeros(8)}, "G")
    foreign = read_state_dicts(tmp_path / "old.pth", None)
    made = build_networks(foreign.peer, foreign.settings, foreign.weights)["G"].network(io["real_A"])
    torch.testing.assert_close(made, io["fake_B"], rtol=0.0, atol=1e-4)


def test_a_file_becomes_a_snapshot_that_translates(tmp_path: Path) -> None:
    folder = golden.folder("cyclegan-resnet64")
    weights, io = load_file(folder / "weights.safetensors"), load_file(folder / "io.safetensors")
    _save(tmp_path / "latest_net_G_A.pth", weights, "G_A")
    _save(tmp_path / "latest_net_D_A.pth", weights, "D_A")
    command = ["import", str(tmp_path / "latest_net_G_A.pth"), "--out", str(tmp_path / "snap")]
    command += ["--discriminator", str(tmp_path / "latest_net_D_A.pth")]
    untold = CliRunner().invoke(app, command).exception
    assert isinstance(untold, InteropError)
    assert "resolution" in str(untold)

    result = CliRunner().invoke(app, [*command, "--set", "resolution=64"])
    assert result.exit_code == 0, result.output
    assert "G: resnet_translator, 64 pixels, no classes" in result.stdout
    assert (tmp_path / "snap" / "patch_discriminator.safetensors").exists()
    snapshot = load_snapshot(tmp_path / "snap")
    draws = Draws(0, torch.arange(len(io["real_A"])), "test")
    made = snapshot.sampler(snapshot.networks, {"input": io["real_A"]}, draws)["target"]
    torch.testing.assert_close(made, io["fake_B"], rtol=0.0, atol=1e-4)


@pytest.mark.parametrize(("name", "key"), [("esrgan-x4", "params_ema"), ("esrgan-x4", None), ("srgan-x2", "params")])
def test_upscalers_are_read_under_every_key(tmp_path: Path, name: str, key: str | None) -> None:
    folder = golden.folder(name)
    weights, io = load_file(folder / "weights.safetensors"), load_file(folder / "io.safetensors")
    for part in ("G", "D"):
        state = {one.removeprefix(f"{part}."): value for one, value in weights.items() if one.startswith(f"{part}.")}
        wrong = {one: torch.zeros_like(value) for one, value in state.items()}
        torch.save({"params": wrong, key: state} if key else state, tmp_path / f"{part}.pth")
    command = ["import", str(tmp_path / "G.pth"), "--out"]
    result = CliRunner().invoke(app, [*command, str(tmp_path / "alone")])
    assert result.exit_code == 0, result.output
    snapshot = load_snapshot(tmp_path / "alone")
    given = {"input": 2 * io["low"] - 1}
    made = snapshot.sampler(snapshot.networks, given, Draws(0, torch.arange(len(io["low"])), "test"))["target"]
    torch.testing.assert_close((made + 1) / 2, io["img"], rtol=0.0, atol=1e-4)
    result = CliRunner().invoke(app, [*command, str(tmp_path / "both"), "--discriminator", str(tmp_path / "D.pth")])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "both" / "patch_discriminator.safetensors").exists()


def test_the_names_of_esrgans_first_files_are_understood(tmp_path: Path) -> None:
    weights = load_file(golden.folder("esrgan-x4") / "weights.safetensors")
    former = {"body": "RRDB_trunk", "conv_body": "trunk_conv", "conv_up": "upconv", "conv_hr": "HRconv", "rdb": "RDB"}
    for name, old in sorted(former.items(), key=lambda pair: -len(pair[0])):
        weights = {key.replace(name, old) if key.startswith("G.") else key: one for key, one in weights.items()}
    _save(tmp_path / "RRDB_ESRGAN_x4.pth", weights, "G")
    foreign = read_state_dicts(tmp_path / "RRDB_ESRGAN_x4.pth", None)
    assert build_networks(foreign.peer, foreign.settings, foreign.weights).keys() == {"G"}
    assert (foreign.settings["g"], foreign.settings["scale"], foreign.settings["blocks"]) == ("rrdb", 4, 2)


def test_other_networks_with_such_layers_are_refused(tmp_path: Path) -> None:
    torch.save(
        {"conv_first.weight": torch.zeros(4, 3, 3, 3), "conv_last.weight": torch.zeros(3, 4, 3, 3)}, tmp_path / "x.pth"
    )
    with pytest.raises(InteropError, match="neither those of RRDBNet nor those of MSRResNet"):
        read_state_dicts(tmp_path / "x.pth", None)
