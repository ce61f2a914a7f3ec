"""Checkpoints of pix2pix and CycleGAN: the golden folders carry the published names."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bigtrain.interop.load import build_networks
from bigtrain.interop.state_dicts import read_state_dicts
from tests.numerics import golden


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
        state = {key.removeprefix(f"{part}."): value for key, value in weights.items() if key.startswith(f"{part}.")}
        if "batch" not in name:
            # PyTorch before 0.4 wrote statistics of instance normalisation, where the norm after the first one is.
            later = {"G": "model.model.1.model.2", "D": "model.3", "G_A": "model.5", "G_B": "model.5"}
            state[f"{later.get(part, 'model.3')}.running_mean"] = torch.zeros(8)
        torch.save(state, tmp_path / f"{part}.pth")
    foreign = read_state_dicts(tmp_path / f"{parts[0]}.pth", tmp_path / f"{parts[1]}.pth")
    assert foreign.untold == (set() if "unet" in name else {"resolution"})
    networks = build_networks(foreign.peer, {"resolution": 64, **foreign.settings}, foreign.weights)
    made = networks["G"].network(io[images[0]])
    torch.testing.assert_close(made, io[images[1]], rtol=0.0, atol=1e-4)
    assert (networks["D"].network.condition is not None) == conditional
