"""Options that messages name are options that the command line has."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import typer.main

from bigtrain.cli import app

ROOT = Path(__file__).parents[2]
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")
_SLURM = {"--me", "--parsable", "--exclusive"}
_MLFLOW = {"--backend-store-uri", "--run-id", "--experiment-id", "--artifacts-destination", "--default-artifact-root"}
OTHERS = _SLURM | _MLFLOW | {"--source", "--dest", "--nproc-per-node"}
"""Of Slurm's commands, of MLflow's, of the converter that StyleGAN's authors give, and of torchrun."""


def options_of(command: object) -> set[str]:
    """Return all options of a command and of those below it."""
    found = {name for parameter in getattr(command, "params", []) for name in parameter.opts + parameter.secondary_opts}
    return found.union(*map(options_of, getattr(command, "commands", {}).values()))


def sentences(tree: ast.AST) -> Iterator[str]:
    """Iterate over the texts of a module that are no docstrings and no single words: messages, mostly."""
    documentation = {
        node.value for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        is_text = isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in documentation
        if is_text and " " in node.value.strip():
            yield node.value


def test_an_option_that_a_message_names_exists() -> None:
    known = options_of(typer.main.get_command(app)) | OTHERS
    named = {
        f"{path.relative_to(ROOT)}: {option}"
        for room in ("bigtrain", "data_pipelines", "launch")
        for path in sorted((ROOT / room).rglob("*.py"))
        for text in sentences(ast.parse(path.read_text()))
        for option in _OPTION.findall(text)
        if option not in known
    }
    assert not named
    assert "--label" in known
