"""What is exported computes the snapshot's images; the export itself compares them."""

import importlib.util
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from bigtrain.cli import app
from bigtrain.core.errors import UserError
from bigtrain.generate.snapshot import load_snapshot, save_snapshot
from bigtrain.interop.errors import InteropError
from bigtrain.interop.exported import Export, GeneratorProgram
from bigtrain.interop.exporting import FORMATS, export_snapshot
from bigtrain.models import ImageSpec
from bigtrain.models.biggan import BigGANGeneratorConfig
from bigtrain.models.network_spec import NetworkSpec
from bigtrain.models.resnet_translator import ResNetTranslatorConfig
from bigtrain.models.stylegan2 import StyleGAN2GeneratorConfig
from bigtrain.tasks.unpaired import UnpairedSampler
from data_pipelines.fields.spec import FieldSpec
from tests.snapshots import save_generator

CONFIGS = {
    "biggan": (BigGANGeneratorConfig(z_dim=16, width=8, shared_dim=8, hierarchical=True, attention=(16,)), 3),
    "stylegan2": (StyleGAN2GeneratorConfig(z_dim=8, w_dim=8, mapping_layers=2, channel_base=256, channel_max=8), 0),
}


CELLS = [
    ("biggan", "torch-export"),
    ("stylegan2", "onnx"),
    pytest.param("biggan", "onnx", marks=pytest.mark.slow),
    pytest.param("stylegan2", "torch-export", marks=pytest.mark.slow),
]


@pytest.fixture(params=CONFIGS)
def snapshot(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    torch.manual_seed(0)
    config, classes = CONFIGS[request.param]
    names = [str(index) for index in range(classes)]
    save_generator(tmp_path / "s", config.build(ImageSpec(32, 3, classes)), config, class_names=names)
    return tmp_path / "s"


@pytest.mark.parametrize(("snapshot", "format_"), CELLS, indirect=["snapshot"])
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

    def wrong(export: Export, out: Path):
        out.touch()
        return lambda z, label: export.program(z, label) * 1.001

    def failing(export: Export, out: Path):
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
    assert torch.equal(GeneratorProgram(generator, 0.5)(z, label), generator(z, label, truncation=0.5))


@pytest.fixture
def translators(tmp_path: Path) -> Path:
    """A snapshot with a network for each direction of 16 pixels."""
    torch.manual_seed(0)
    config, image = ResNetTranslatorConfig(width=4, blocks=1), ImageSpec(16, 3)
    specs = {name: NetworkSpec("generator", "translator", config, (image, image)) for name in ("G_AB", "G_BA")}
    networks = {name: spec.build().eval() for name, spec in specs.items()}
    field = FieldSpec("image", (3, 16, 16), "uint8", codec="png")
    sampler = UnpairedSampler({"A.image": field, "B.image": field}, {"B.image": field, "A.image": field})
    save_snapshot(tmp_path / "t", networks, specs, sampler, averaged=tuple(networks), class_names=(), facts={})
    return tmp_path / "t"


def test_a_translator_takes_any_size_as_onnx(translators: Path, tmp_path: Path) -> None:
    import onnxruntime

    command = ["export", str(translators), "--format", "onnx", "--out", str(tmp_path / "file"), "--output", "A.image"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.exception
    session = onnxruntime.InferenceSession(tmp_path / "file", providers=["CPUExecutionProvider"])
    network = load_snapshot(translators).networks["G_BA"]
    for size in ((1, 3, 16, 16), (2, 3, 40, 28)):
        image = torch.rand(size) * 2 - 1
        with torch.no_grad():
            expected = network(image)
        found = torch.from_numpy(session.run(None, {"image": image.numpy()})[0])
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_options_of_another_kind_of_network_are_refused(translators: Path, tmp_path: Path, snapshot: Path) -> None:
    with pytest.raises(InteropError, match="contains a translator, which has none"):
        export_snapshot(translators, tmp_path / "file", "safetensors", truncation=0.5)
    with pytest.raises(InteropError, match="contains a generator, which has one output"):
        export_snapshot(snapshot, tmp_path / "file", "safetensors", output="A.image")
    with pytest.raises(UserError, match="--output C"):
        export_snapshot(translators, tmp_path / "file", "safetensors", output="C")
