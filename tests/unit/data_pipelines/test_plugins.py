"""Registries: ours come first, others' at the first look, and what does not fit is one line."""

from pathlib import Path
from typing import Any

import pytest

from data_pipelines.plugins import PluginError, Registry, load_plugins, plugin_names
from tests.plugged import describe


def _read_functions(name: str, found: Any) -> tuple[str, Any] | None:
    return (name, found) if callable(found) else None


def registry(group: str) -> "Registry[Any]":
    made: Registry[Any] = Registry(group, "a function", _read_functions)
    made.add(("ours", len))
    return made


def test_ours_are_found_without_looking_at_other_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(describe(tmp_path, "broken", {"test.ours": {"other": "nowhere:x"}}))
    assert registry("test.ours")["ours"] is len
    assert plugin_names("test.ours") == {"other": "'broken' 1"}


def test_others_are_found_at_the_first_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(describe(tmp_path, "good", {"test.good": {"other": "os.path:join"}}))
    found = registry("test.good")
    assert list(found) == ["ours", "other"]
    assert found["other"]("a", "b") == "a/b"
    assert "third" not in found


def test_registries_of_one_group_take_what_is_theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = {"other": "os.path:join", "words": "os:sep"}
    monkeypatch.syspath_prepend(describe(tmp_path, "both", {"test.shared": entries}))
    texts: Registry[str] = Registry(
        "test.shared", "a string", lambda name, found: (name, found) if isinstance(found, str) else None
    )
    assert list(registry("test.shared")) == ["ours", "other"]
    assert list(texts) == ["words"]


@pytest.mark.parametrize(
    ("entry", "value", "words"),
    [
        ("other", "nowhere.at_all:x", "cannot be loaded (ModuleNotFoundError: No module named 'nowhere'); fix or"),
        ("other", "os:no_such_thing", "cannot be loaded (AttributeError"),
        ("other", "os:sep", "is '/', expected a function"),
        ("ours", "os.path:join", "'ours' is taken by bigtrain; rename or uninstall it"),
    ],
)
def test_what_does_not_fit_is_one_line_that_names_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry: str, value: str, words: str
) -> None:
    group = f"test.{tmp_path.name}"
    monkeypatch.syspath_prepend(describe(tmp_path, "broken", {group: {entry: value}}, version="3"))
    with pytest.raises(PluginError) as caught:
        list(registry(group))
    assert str(caught.value).startswith(f"package 'broken' 3, entry point '{entry}' of {group}: ")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_two_packages_cannot_bring_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("first", "second"):
        monkeypatch.syspath_prepend(describe(tmp_path / name, name, {"test.twice": {"other": "os.path:join"}}))
    with pytest.raises(PluginError, match="package 'second' 1.*: 'other' is taken by package 'first' 1"):
        list(registry("test.twice"))
    assert len(load_plugins("test.twice")) == 2
