import pwd
from pathlib import Path

import pytest

from data_pipelines.files import in_home


def test_a_container_may_know_no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert in_home("~/.cache/bigtrain") == Path("/home/me/.cache/bigtrain")

    def nobody(number: int) -> None:
        raise KeyError(number)

    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    found = in_home("~/.cache/bigtrain")
    assert found.is_absolute()
    assert found.parts[-2:] == (".cache", "bigtrain")
    assert in_home("/data") == Path("/data")
