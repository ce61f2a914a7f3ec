"""The golden check finds what is wrong in a folder: here one made of our own networks."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from typer.testing import CliRunner

from bigtrain.cli import app
from bigtrain.interop.check import check
from bigtrain.interop.errors import InteropError
from bigtrain.models import ImageSpec
from bigtrain.models.biggan import BigGANDiscriminatorConfig, BigGANGeneratorConfig

CPU = torch.device("cpu")
Tensors = dict[str, Tensor]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    image = ImageSpec(32, 1, 3)
    G = BigGANGeneratorConfig(z_dim=8, width=4).build(image).eval()
    D = BigGANDiscriminatorConfig(width=4).build(image).eval()
    z, y, real = torch.randn(4, 8), torch.tensor([0, 1, 2, 0]), torch.randn(4, 1, 32, 32)
    with torch.no_grad():
        fake = G(z, y)
        io = {"z": z, "y": y, "real": real, "img": fake, "logits_real": D(real, y)[:, None]}
    (-D(G(z, y), y)).mean().backward()
    settings = {
        "seed": 1,
        "resolution": 32,
        "n_classes": 3,
        "attn": "0",
        "ch": 4,
        "dim_z": 8,
        "shared_dim": 0,
        "hier": False,
        "g_shared": False,
    }
    document = {
        "peer": "biggan",
        "config": settings,
        "params_G": sum(value.numel() for value in G.parameters()),
        "grad_norm_G_hinge": {name: value.grad.norm().item() for name, value in G.named_parameters()},
    }
    weights = {
        f"{part}.{name}": value for part, net in (("G", G), ("D", D)) for name, value in net.state_dict().items()
    }
    (tmp_path / "config.json").write_text(json.dumps(document))
    save_file(weights, tmp_path / "weights.safetensors")
    save_file(io, tmp_path / "io.safetensors")
    return tmp_path


def change(file: Path, edit: Callable[[Any], object]) -> None:
    if file.suffix == ".json":
        content = json.loads(file.read_text())
        edit(content)
        file.write_text(json.dumps(content))
    else:
        tensors = load_file(file)
        edit(tensors)
        save_file(tensors, file)


def run(folder: Path, *options: str) -> tuple[int, dict[str, Any], str]:
    result = CliRunner().invoke(app, ["interop", "check", str(folder), *options])
    return result.exit_code, json.loads(result.stdout), result.stderr


def test_it_prints_the_worst_error_of_everything(folder: Path) -> None:
    code, line, complaints = run(folder)
    assert (code, complaints) == (0, "")
    assert line["passed"]
    assert line["errors"].keys() == {"img", "logits_real", "params_G", "grad_norm_G_hinge"}
    assert max(line["errors"].values()) < 1e-5


@pytest.mark.parametrize(
    ("file", "edit", "words"),
    [
        ("io.safetensors", lambda io: io["img"][0, 0, 0, 0].add_(1e-2), "img"),
        ("io.safetensors", lambda io: io["img"][0, 0, 0, 0].fill_(torch.nan), "img"),
        ("io.safetensors", lambda io: io.update(logits_real=torch.zeros(3, 1)), "logits_real"),
        ("config.json", lambda document: document.update(params_G=1), "params_G"),
        (
            "config.json",
            lambda document: document["grad_norm_G_hinge"].update({"blocks.0.0.conv1.weight": 0.0}),
            "(blocks.0.0.conv1.weight)",
        ),
        (
            "config.json",
            lambda document: document["grad_norm_G_hinge"].pop("linear.weight"),
            "(linear.weight)",
        ),
    ],
)
def test_past_tolerance_is_exit_code_1(folder: Path, file: str, edit, words: str) -> None:
    change(folder / file, edit)
    code, line, complaints = run(folder)
    assert code == 1
    assert not line["passed"]
    assert words in complaints
    assert run(folder, "--precision", "bf16")[0] == 0, "bf16 is only reported"


@pytest.mark.parametrize(
    ("file", "edit", "words"),
    [
        ("io.safetensors", lambda io: io.update(volume=torch.zeros(1)), "'volume' is unknown"),
        ("io.safetensors", lambda io: io.pop("z"), "lacks 'z'"),
        ("config.json", lambda document: document.update(new=1), "'new' is unknown"),
        ("config.json", lambda document: document.update(grad_norm_G_wgan={}), "'grad_norm_G_wgan' is unknown"),
        ("config.json", lambda document: document["config"].update(dropout=1), "unknown settings: dropout"),
        ("config.json", lambda document: document["config"].pop("ch"), "lack 'ch'"),
        ("config.json", lambda document: document["config"].update(ch="4"), "width"),
        ("config.json", lambda document: document["config"].update(resolution=48), "resolutions 32"),
        ("config.json", lambda document: document["config"].update(dim_z=9), "linear.weight is 256x8"),
        (
            "config.json",
            lambda document: document.update(peer="bigan"),
            "peer 'bigan' is unknown; known are biggan, hifigan, pix2pix",
        ),
        ("config.json", lambda document: document["grad_norm_G_hinge"].update(lost=1.0), "no parameter 'lost'"),
        ("weights.safetensors", lambda weights: weights.pop("G.linear.weight"), "G: missing linear.weight"),
        ("weights.safetensors", lambda weights: weights.update({"D.x": torch.ones(1)}), "D: unused x"),
        ("weights.safetensors", lambda weights: weights.update({"x": torch.ones(1)}), "without a network: x"),
    ],
)
def test_what_is_not_understood_is_never_skipped(folder: Path, file: str, edit, words: str) -> None:
    change(folder / file, edit)
    with pytest.raises(InteropError, match=words) as caught:
        check(folder, path="fast", precision="fp32", device=CPU)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_files_are_named(folder: Path) -> None:
    (folder / "io.safetensors").unlink()
    with pytest.raises(InteropError, match="io.safetensors: missing"):
        check(folder, path="fast", precision="fp32", device=CPU)
    with pytest.raises(InteropError, match="no such folder"):
        check(folder / "x", path="fast", precision="fp32", device=CPU)
