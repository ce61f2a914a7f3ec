"""What is read cannot run code, and what is made is not everybody's."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bigtrain.core.config import Config, ConfigError, load_config
from tests.conftest import ROOT

UNPICKLING = {"pickle.load", "pickle.loads", "pickle.Unpickler", "marshal.loads", "eval", "exec", "yaml.load"}
OURS = {"data_pipelines/readers.py", "data_pipelines/reader_process.py", "bigtrain/interop/pickles.py"}
"""Two ends of a pipe between processes of one run, and the reader that allows a list of names only."""


PROGRAMS = {
    "bigtrain/evaluation/extractors/exported_program.py",
    "bigtrain/generate/programs.py",
    "bigtrain/interop/exporting.py",
    "bigtrain/tracking/generator_model.py",
}
"""Where programs are loaded: behind the check of others', and where we have just written them ourselves."""


def calls() -> Iterator[tuple[str, str, ast.Call]]:
    """Iterate over all calls in the code: file, what is called, and the call."""
    for folder in ("bigtrain", "data_pipelines", "launch"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call):
                    yield str(path.relative_to(ROOT)), ast.unparse(node.func), node


def test_nothing_is_unpickled_that_others_made() -> None:
    found = list(calls())
    assert len(found) > 5000
    for file, function, call in found:
        told = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        if function == "torch.load":
            assert told.get("weights_only") == "True", file
        if function in ("np.load", "numpy.load"):
            assert told.get("allow_pickle", "False") == "False", file
        if function == "YAML":
            assert told.get("typ") == "'safe'", file
        assert function not in UNPICKLING or file in OURS, (file, function)
        assert function != "Image.open" or file == "data_pipelines/pictures.py", f"{file}: use open_picture"
        assert function != "torch.export.load" or file in PROGRAMS, f"{file}: use load_program"


@pytest.mark.parametrize("text", ["!!python/object/apply:os.system ['touch owned']", "a: !!python/name:os.system"])
def test_a_config_cannot_run_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"run.yaml"):
        load_config(Config, tmp_path / "run.yaml")
    assert not (tmp_path / "owned").exists()


def test_what_is_made_can_be_changed_by_its_owner_and_group_only(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bigtrain", "data", "prepare", "fashion-mnist-10k", str(tmp_path / "set")]
    subprocess.run([*command, "--max-samples", "20", "--workers", "1"], check=True, umask=0, cwd=ROOT)
    made = [tmp_path / "set", *(tmp_path / "set").iterdir()]
    assert len(made) > 3
    assert not [path for path in made if path.stat().st_mode & 0o002]
