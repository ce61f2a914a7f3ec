"""What is exported computes the snapshot's images; the export itself compares them."""

import importlib.util
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from bigtrain.cli import app
from bigtrain.generate.snapshot import load_snapshot
from bigtrain.interop.errors import InteropError
from bigtrain.interop.exporting import FORMATS, Program, export_snapshot
from bigtrain.models import ImageSpec
from bigtrain.models.biggan import BigGANGeneratorConfig
from bigtrain.models.stylegan2 import StyleGAN2GeneratorConfig
from tests.snapshots import save_generator

CONFIGS = {
    "biggan": (BigGANGeneratorConfig(z_dim=16, width=8, shared_dim=8, hierarchical=True, attention=(16,)), 3),
    "stylegan2": (StyleGAN2GeneratorConfig(z_dim=8, w_dim=8, mapping_layers=2, channel_base=256, channel_max=8), 0),
}


@pytest.fixture(params=CONFIGS)
def snapshot(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    torch.manual_seed(0)
    config, classes = CONFIGS[request.param]
    names = [str(index) for index in range(classes)]
    save_generator(tmp_path / "s", config.build(ImageSpec(32, 3, classes)), config, class_names=names)
    return tmp_path / "s"


@pytest.mark.parametrize("format_", FORMATS)
def test_the_file_computes_the_images(snapshot: Path, tmp_path: Path, format_: str) -> None:
    command = ["export", str(snapshot), "--format", format_, "--out", str(tmp_path / "file"), "--truncation", "0.7"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.exception
    assert "largest difference" in result.stdout
    generator = load_snapshot(snapshot).generator
    z, label = torch.randn(5, generator.z_dim), torch.zeros(5, dtype=torch.int64)
    expected = generator(z, label, truncation=0.7)
    if format_ == "torch-export":
        found = torch.export.load(tmp_path / "file").module()(z, label)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_a_file_that_computes_something_else_is_refused(
    snapshot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "file"

    def wrong(program, inputs, out: Path):
        out.touch()
        return lambda z, label: program(z, label) * 1.001

    def failing(program, inputs, out: Path):
        out.touch()
        raise RuntimeError("no such operator\nand much more")

    monkeypatch.setitem(FORMATS, "onnx", wrong)
    with pytest.raises(InteropError, match="differ by"):
        export_snapshot(snapshot, out, "onnx")
    monkeypatch.setitem(FORMATS, "onnx", failing)
    with pytest.raises(InteropError, match=r"cannot be written as onnx \(no such operator\)$"):
        export_snapshot(snapshot, out, "onnx")
    assert not out.exists()


def test_missing_packages_are_named(snapshot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InteropError, match=r"needs onnx, .*pip install 'bigtrain\[onnx\]'"):
        export_snapshot(snapshot, tmp_path / "file", "onnx")


def test_a_program_is_a_function_of_tensors(snapshot: Path) -> None:
    generator = load_snapshot(snapshot).generator
    z, label = torch.randn(2, generator.z_dim), torch.zeros(2, dtype=torch.int64)
    assert torch.equal(Program(generator, 0.5)(z, label), generator(z, label, truncation=0.5))
