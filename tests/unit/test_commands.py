"""The commands of the documentation and of the recipes' headers: each `bigtrain train` has a config that can run so."""

import re
import shlex
from pathlib import Path

import pytest

from bigtrain.config import load_training
from tests.conftest import ROOT

PLACES = [*sorted((ROOT / "configs").rglob("*.yaml")), *sorted((ROOT / "docs").rglob("*.md")), ROOT / "README.md"]


def commands(path: Path) -> list[list[str]]:
    """Return the words behind each `bigtrain train configs/...` of a page, or of a recipe's header."""
    text = path.read_text().replace("\\\n", " ")
    if path.suffix == ".yaml":
        text = "\n".join(line.lstrip("# ") for line in text.splitlines() if line.startswith("#"))
    return [shlex.split(line, comments=True) for line in re.findall(r"^ *bigtrain train (configs/.*)", text, re.M)]


COMMANDS = sorted({tuple(words) for path in PLACES for words in commands(path)})


def test_they_were_found() -> None:
    assert len(COMMANDS) > 40


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_recipe_trains_on_the_ranks_that_its_command_starts(words: tuple[str, ...]) -> None:
    recipe, *rest = words
    ranks = int(rest[rest.index("--nproc") + 1]) if "--nproc" in rest else 1
    config = load_training(ROOT / recipe, [word for word in rest if "=" in word and not word.startswith("--")])
    assert config.accumulation(ranks) >= 1
