"""The documentation's page of recipes shows a picture that has the name of a recipe."""

import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT


def test_a_picture_with_the_name_of_a_recipe_is_in_the_gallery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(ROOT / "scripts" / "documentation"), *sys.path])
    import recipes_page

    for name in ("cut-emoji64.png", "mocogan-motions32.gif", "plan.png"):
        (tmp_path / name).touch()
    monkeypatch.setattr(recipes_page, "PICTURES", tmp_path)
    page = recipes_page.recipes_page()
    gallery = page.partition("## All recipes")[0]
    for name in ("cut-emoji64.png", "mocogan-motions32.gif"):
        assert f"](../images/{name}) {name.partition('.')[0]}](#" in gallery
        assert page.count(f"../images/{name}") == 2, "in the gallery and beside the recipe's header"
    assert "plan.png" not in page
