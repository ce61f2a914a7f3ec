"""The recipes of configs/, which has a folder for each task."""

from tests.conftest import ROOT

RECIPES = {path.stem: path for path in sorted((ROOT / "configs").rglob("*.yaml")) if path.parent.name != "sweeps"}
"""The file of each recipe, by its name."""
