"""The page of all commands, from the command line's own declarations."""

import re
from collections.abc import Iterator
from typing import Any

import typer.main

from bigtrain.cli import app

INTRODUCTION = """# Commands

Every command prints its own help with `--help`. A user's mistake is one line on stderr and exit code 2; see
[exit codes](exit-codes.md). `bigtrain --install-completion` installs completion for bash, zsh or fish.

"""


def commands_page() -> str:
    """Return the page as Markdown."""
    commands = list(_commands(typer.main.get_command(app), "bigtrain"))
    summary = ["| command | what for |", "|---|---|"]
    summary += [f"| [`{name}`](#{_anchor(name)}) | {_summary(command)} |" for name, command in commands]
    return INTRODUCTION + "\n".join(summary) + "\n" + "".join(_section(name, command) for name, command in commands)


def _commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    children = getattr(command, "commands", {})
    if not children:
        yield name, command
    for child, inner in sorted(children.items()):
        if not inner.hidden:
            yield from _commands(inner, f"{name} {child}")


def _anchor(name: str) -> str:
    return name.replace(" ", "-")


def _text(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|").replace("<", "&lt;")


def _summary(command: Any) -> str:
    return _text(re.split(r"\n\n|\. ", command.help or "")[0].rstrip("."))


def _section(name: str, command: Any) -> str:
    shown = [parameter for parameter in command.params if not getattr(parameter, "hidden", False)]
    arguments = [parameter for parameter in shown if parameter.param_type_name == "argument"]
    options = [parameter for parameter in shown if parameter.param_type_name == "option"]
    words = [_argument(parameter) for parameter in arguments] + (["[OPTIONS]"] if options else [])
    said = (command.help or "").replace("\b", "")
    lines = ["", f"## {name} {{ #{_anchor(name)} }}", "", "```", " ".join([name, *words]), "```", "", said.strip(), ""]
    if arguments:
        lines += ["| argument | meaning |", "|---|---|"]
        lines += [f"| `{_argument(parameter)}` | {_text(parameter.help)} |" for parameter in arguments] + [""]
    if options:
        lines += ["| option | meaning |", "|---|---|"]
        lines += [f"| {_option(parameter)} | {_text(parameter.help)} |" for parameter in options] + [""]
    return "\n".join(lines)


def _argument(parameter: Any) -> str:
    name = parameter.metavar or parameter.name.upper()
    return (name if parameter.required else f"[{name}]") + ("..." if parameter.nargs == -1 else "")


def _option(parameter: Any) -> str:
    names = ", ".join(f"`{name}`" for name in [*parameter.opts, *parameter.secondary_opts])
    return names if parameter.is_flag else f"{names} `{parameter.metavar or parameter.name.upper()}`"
