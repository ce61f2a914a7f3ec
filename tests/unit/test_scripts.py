"""The scripts that package the golden vectors and list licences."""

import hashlib
import subprocess
import sys
import tarfile
from pathlib import Path

from tests.conftest import ROOT


def run(*words: str | Path) -> str:
    return subprocess.run([sys.executable, *map(str, words)], check=True, capture_output=True, text=True).stdout


def test_the_same_golden_vectors_give_the_same_archive(tmp_path: Path) -> None:
    golden = tmp_path / "golden"
    (golden / "network").mkdir(parents=True)
    (golden / "README.md").write_text("# Golden vectors")
    (golden / "network" / "io.safetensors").write_bytes(b"numbers")
    archives = [
        Path(run(ROOT / "scripts" / "golden_archive.py", golden, tmp_path / name).strip()) for name in ("one", "two")
    ]
    assert archives[0].read_bytes() == archives[1].read_bytes()
    digest = hashlib.sha256(archives[0].read_bytes()).hexdigest()
    assert (tmp_path / "one" / f"{archives[0].name}.sha256").read_text() == f"{digest}  {archives[0].name}\n"
    with tarfile.open(archives[0]) as tar:
        assert [name.partition("/")[2] for name in tar.getnames()] == ["README.md", "network/io.safetensors"]


def test_every_installed_package_of_the_lock_file_has_a_licence() -> None:
    lines = run(ROOT / "scripts" / "licences.py").splitlines()
    assert len(lines) > 50
    assert any(line.startswith("torch ") and "BSD" in line for line in lines)
