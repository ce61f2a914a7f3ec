import os
import pwd
import tempfile
from pathlib import Path

import pytest

from data_pipelines.files import in_home, set_home


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(number: int) -> None:
        raise KeyError(number)

    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", nobody)


def test_a_home_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert in_home("~/.cache/bigtrain") == Path("/home/me/.cache/bigtrain")
    set_home()
    assert os.environ["HOME"] == "/home/me"


def test_a_container_may_know_no_home(homeless: None) -> None:
    found = in_home("~/.cache/bigtrain")
    assert found.is_absolute()
    assert found.parts[-2:] == (".cache", "bigtrain")
    assert in_home("/data") == Path("/data")


@pytest.mark.parametrize("way", ["missing", "the user's", "open to all", "a link"])
def test_libraries_find_a_home_that_is_the_users_alone(
    homeless: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, way: str
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    usual = tmp_path / f"bigtrain-{os.getuid()}"
    if way == "a link":
        (tmp_path / "elsewhere").mkdir()
        usual.symlink_to(tmp_path / "elsewhere")
    elif way != "missing":
        usual.mkdir()
        usual.chmod(0o777 if way == "open to all" else 0o700)
    set_home()
    assert (Path.home() == usual) == (way in ("missing", "the user's"))
    assert Path.home().stat().st_mode & 0o077 == 0
