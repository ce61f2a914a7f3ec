"""Packages that add to bigtrain, installed into folders of their own without a network."""

import shutil
import tomllib
from collections.abc import Mapping
from pathlib import Path

from tests.conftest import ROOT

PLUGIN = ROOT / "tests" / "plugin"


def install(site: Path, project: Path = PLUGIN) -> Path:
    """Put a package into a folder as pip would; return the folder, to be put on the path."""
    described = tomllib.loads((project / "pyproject.toml").read_text())["project"]
    for package in project.iterdir():
        if package.is_dir():
            shutil.copytree(package, site / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    return describe(site, described["name"], described["entry-points"], version=described["version"])


def describe(site: Path, name: str, entry_points: Mapping[str, Mapping[str, str]], *, version: str = "1") -> Path:
    """Write what an installed package says of itself; return the folder."""
    folder = site / f"{name.replace('-', '_')}-{version}.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    groups = (
        "\n".join([f"[{group}]", *(f"{key} = {value}" for key, value in entries.items()), ""])
        for group, entries in entry_points.items()
    )
    (folder / "entry_points.txt").write_text("\n".join(groups))
    return site
