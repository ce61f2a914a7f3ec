"""The plans and jobs that README, documentation and recipes print divide over their ranks as they are printed."""

import itertools
import re
import shlex
from collections.abc import Callable

import pytest

from bigtrain.config import load_training
from bigtrain.core.logging import console
from tests.conftest import ROOT

PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "benchmarks").rglob("*.md")),
    *sorted((ROOT / "configs").rglob("*.yaml")),
]
VALUED = ("--time", "--partition", "--gpu", "--link", "--price", "--plot", "--nodes", "--gpus-per-node")


def test_every_config_that_a_page_names_exists() -> None:
    named = {path for page in PAGES for path in re.findall(r"\bconfigs/[\w./-]+\.yaml\b", page.read_text())}
    assert sorted(path for path in named if not (ROOT / path).is_file()) == []


def commands() -> list[str]:
    found = []
    for page in PAGES:
        text = page.read_text().replace("\\\n#", " ").replace("\\\n", " ")
        found += re.findall(r"bigtrain (?:plan|submit) (configs/\S+\.yaml .*--nodes \d+ --gpus-per-node \d+.*)", text)
    return sorted(set(found))


@pytest.mark.parametrize("command", commands())
def test_a_printed_command_fits_its_ranks(command: str) -> None:
    """README printed one of 8 micro-batches on 16 ranks, which is refused."""
    config, *words = shlex.split(command, comments=True)
    options = dict(itertools.pairwise(words))
    ranks = int(options["--nodes"]) * int(options["--gpus-per-node"])
    values = {options[name] for name in VALUED if name in options}
    overrides = [word for word in words if "=" in word and word not in values]
    assert load_training(str(ROOT / config), overrides).accumulation(ranks) >= 1


def test_recipes_of_clusters_say_how_to_use_64_and_256_gpus() -> None:
    for name in ("biggan-imagenet128", "biggan-deep-imagenet512", "r3gan-imagenet64", "stylegan2-ffhq1024"):
        mine = [command for command in commands() if f"/{name}.yaml " in command]
        assert {"--nodes 8 ", "--nodes 32 "} <= {match[0] for one in mine if (match := re.search(r"--nodes \d+ ", one))}


@pytest.mark.slow
def test_the_plan_on_the_page_is_what_the_command_prints(
    bigtrain: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page showed an old one for a week: 14.7 hours, where the header of the recipe said 9."""
    page = (ROOT / "docs" / "how-to" / "planning.md").read_text()
    command, shown = re.findall(r"\$ bigtrain (plan .*)\n((?:.|\n)*?)```", page)[0]
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(console, "width", 80)
    code, printed, _ = bigtrain(*shlex.split(command))
    assert code == 0
    assert [line.rstrip() for line in printed.splitlines()] == shown.splitlines()
