"""Files of `torch.export` that run code when PyTorch loads them, each by another way."""

import contextlib
import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bigtrain.evaluation.errors import EvaluationError
from bigtrain.evaluation.extractors import build_extractor
from bigtrain.evaluation.extractors.exported_program import UnsafeProgramError, load_program

CPU = torch.device("cpu")
Entries = dict[str, bytes]


class Features(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3)
        self.register_buffer("scale", torch.full((1,), 255.0), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        wide = nn.functional.interpolate(image / self.scale, (16, 16), mode="bilinear", antialias=True)
        found = self.layer(wide).flatten(2)
        return found.mean(2) * (found.shape[2] // image.shape[0])


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("program") / "good.pt2"
    sizes = ({0: torch.export.Dim.DYNAMIC, 2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC},)
    image = torch.zeros(2, 3, 20, 24, dtype=torch.uint8)
    torch.export.save(torch.export.export(Features().eval(), (image,), dynamic_shapes=sizes), path)
    return path


def rewritten(good: Path, change: Callable[[Entries], None], out: Path) -> Path:
    with zipfile.ZipFile(good) as archive:
        entries = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    change(entries)
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in entries.items():
            archive.writestr(f"good/{name}", content)
    return out


class Command:
    def __reduce__(self) -> tuple[Any, ...]:
        return eval, ("open('trap', 'w')",)


def in_graph(change: Callable[[dict[str, Any]], None]) -> Callable[[Entries], None]:
    def changed(entries: Entries) -> None:
        document = json.loads(entries["models/model.json"])
        change(document)
        entries["models/model.json"] = json.dumps(document).encode()

    return changed


def pickled_weight(entries: Entries) -> None:
    config = json.loads(entries["data/weights/model_weights_config.json"])
    config["config"]["layer.bias"]["use_pickle"] = True
    entries["data/weights/model_weights_config.json"] = json.dumps(config).encode()
    stream = io.BytesIO()
    torch.save(Command(), stream)
    entries["data/weights/weight_1"] = stream.getvalue()


def pickled_inputs(entries: Entries) -> None:
    stream = io.BytesIO()
    torch.save(Command(), stream)
    entries["data/sample_inputs/model.pt"] = stream.getvalue()


def opaque_constant(entries: Entries) -> None:
    config = json.loads(entries["data/constants/model_constants_config.json"])
    config["config"]["scale"]["path_name"] = "opaque_obj_0"
    config["config"]["scale"]["use_pickle"] = True
    entries["data/constants/model_constants_config.json"] = json.dumps(config).encode()
    entries["data/constants/opaque_obj_0"] = pickle.dumps(Command())


def evaluated_size(graph: dict[str, Any]) -> None:
    sizes = graph["graph_module"]["graph"]["sym_int_values"]
    next(iter(sizes.values()))["as_expr"]["expr_str"] = "eval(\"open('trap', 'w')\") and s77"


def run_guard(graph: dict[str, Any]) -> None:
    graph["guards_code"] = ["open('trap', 'w')"]


def called_by_path(graph: dict[str, Any]) -> None:
    graph["graph_module"]["graph"]["nodes"][0]["target"] = "torch.serialization.os.system"


def imported(graph: dict[str, Any]) -> None:
    spec = json.loads(graph["graph_module"]["module_call_graph"][0]["signature"]["in_spec"])
    spec[1]["context"] = json.dumps({"__enum__": True, "fqn": "trap:A", "name": "a"})
    graph["graph_module"]["module_call_graph"][0]["signature"]["in_spec"] = json.dumps(spec)


ATTACKS: dict[str, tuple[Callable[[Entries], None], str]] = {
    "pickled weight": (pickled_weight, "layer.bias is pickled"),
    "pickled sample inputs": (pickled_inputs, "its sample inputs are more than tensors"),
    "opaque constant": (opaque_constant, "its entry data/constants/opaque_obj_0 is not part of a plain program"),
    "size": (in_graph(evaluated_size), "the size .* is not arithmetic"),
    "guard": (in_graph(run_guard), "the guard .* is more than a comparison of sizes"),
    "function": (in_graph(called_by_path), "it calls torch.serialization.os.system"),
    "import": (in_graph(imported), "it names a module to be imported"),
    "library": (lambda entries: entries.update({"data/aotinductor/model/a.so": b"x"}), "its entry data/aotinductor"),
    "old weights": (lambda entries: entries.update({"data/weights/model.pt": b"x"}), "its entry data/weights/model.pt"),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_could_run_code_is_refused(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attack: str
) -> None:
    monkeypatch.chdir(tmp_path)
    change, words = ATTACKS[attack]
    file = rewritten(good, change, tmp_path / "good.pt2")
    with pytest.raises(UnsafeProgramError, match=words):
        load_program(file)
    with pytest.raises(EvaluationError, match=words):
        build_extractor(f"file:{file}", "fp32", CPU)
    assert not Path("trap").exists()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("attack", ["pickled weight", "pickled sample inputs", "opaque constant", "size"])
def test_the_attacks_are_attacks(good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attack: str) -> None:
    monkeypatch.chdir(tmp_path)
    file = rewritten(good, ATTACKS[attack][0], tmp_path / "good.pt2")
    with contextlib.suppress(Exception):
        torch.export.load(file).module()
    assert Path("trap").exists(), "what PyTorch's own loader does with the file"


def test_a_plain_program_is_loaded(good: Path) -> None:
    image = torch.randint(0, 256, (3, 3, 30, 22), dtype=torch.uint8)
    torch.testing.assert_close(load_program(good)(image), torch.export.load(good).module()(image))


def test_what_is_no_program_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.pt2").write_bytes(b"nothing")
    with pytest.raises(UnsafeProgramError, match="not a program of torch.export"):
        load_program(tmp_path / "a.pt2")
