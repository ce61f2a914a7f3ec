"""What README.md says stays true: its table of contents, its commands, and where its numbers come from."""

import importlib.util
import re
import shlex
from pathlib import Path

import pytest
import typer.main
import yaml

from bigtrain.cli import app
from bigtrain.config import load_training
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text()
SHELL = "".join(re.findall(r"```sh\n(.*?)```", README, re.S))
COMMANDS = [shlex.split(line, comments=True) for line in SHELL.splitlines() if line.startswith("bigtrain ")]
MEASURED = re.findall(r"^\| (.+) \| (.+) \| .*?\]\((benchmarks/\S+\.md)\).*\|$", README, re.M)


def test_the_tables_of_contents_are_those_of_the_registries() -> None:
    place = ROOT / "scripts" / "contents_table.py"
    spec = importlib.util.spec_from_file_location("contents_table", place)
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    for path, table in ((script.README, script.short_table()), (script.PAGE, script.full_table())):
        text = path.read_text()
        assert script.with_table(text, table) == text, "run python scripts/contents_table.py"


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_command_has_options_and_keys_that_exist(words: list[str]) -> None:
    command = typer.main.get_command(app)
    rest = words[1:]
    while hasattr(command, "commands"):
        command = command.commands[rest.pop(0)]
    command.make_context(words[1], rest, resilient_parsing=False)
    if words[1] == "train":
        load_training(ROOT / words[2], [word for word in words[3:] if "=" in word])


@pytest.mark.parametrize(("what", "result", "source"), MEASURED)
def test_a_measured_number_stands_in_its_source(what: str, result: str, source: str) -> None:
    numbers = re.findall(r"-?\d+\.\d+", result) or [result]
    text = (ROOT / source).read_text()
    assert not [number for number in numbers if number not in text]


def test_the_tables_were_found() -> None:
    assert len(MEASURED) >= 5
    assert {words[1] for words in COMMANDS} == {"data", "train", "evaluate", "sample", "plan"}


def test_every_link_leads_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)", README) + re.findall(r"src=\"([^\"]+)\"", README)
    assert [link for link in links if not link.startswith("https://") and not Path(ROOT / link).exists()] == []


def test_the_citation_has_what_the_format_asks_for() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert "version" not in citation, "versions are tags of git"
