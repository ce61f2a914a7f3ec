"""What several commands take."""

import importlib
from collections.abc import Sequence
from typing import Annotated, NoReturn, TypeVar

import typer

from bigtrain.core.config import ConfigError

ChoiceT = TypeVar("ChoiceT", bound=str)

ConfigFile = Annotated[str, typer.Argument(metavar="CONFIG", help="A YAML file, see configs/.")]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Dotted overrides, such as ema.half_life_kimg=20.")
]


def one_of(option: str, value: str, choices: tuple[ChoiceT, ...]) -> ChoiceT:
    """Return an option's value if it is one of the choices.

    Raises:
        ConfigError: it is not; the message names them.
    """
    for choice in choices:
        if value == choice:
            return choice
    raise ConfigError(f"{option} {value!r}: use {' or '.join(choices)}")


def run_program(module: str, arguments: Sequence[str], *, nproc: int) -> NoReturn:
    """Run a program of bigtrain: here where one rank is enough, else on several of this machine; exit as it does."""
    if nproc == 1:
        importlib.import_module(module).main(list(arguments))
    from launch.local import run_ranks

    raise typer.Exit(run_ranks(module, arguments, nproc=nproc))
