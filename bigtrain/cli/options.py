"""What several commands take."""

import importlib
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer

from bigtrain.core import collector
from bigtrain.core.errors import ConfigError

if TYPE_CHECKING:  # pydantic and the YAML library would take a third of the time of `bigtrain --help`
    from bigtrain.core.config import Config, ConfigT

ChoiceT = TypeVar("ChoiceT", bound=str)

ConfigFile = Annotated[str, typer.Argument(metavar="CONFIG", help="YAML file of a run; configs/ contains examples.")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="Overrides of keys of the config, such as ema.half_life_kimg=20."),
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


def settings_from(schema: "type[ConfigT]", command: str, **options: Any) -> "ConfigT":
    """Return a program's settings from a command's options; those that are None keep the default that the class has.

    Raises:
        ConfigError: an option's value is none that the program takes.
    """
    from bigtrain.core.config import parse_config

    given = {name: value for name, value in options.items() if value is not None}
    return parse_config(schema, given, source=command)


def run_program(module: str, settings: "Config", *, nproc: int) -> NoReturn:
    """Run a program of bigtrain: here where one rank is enough, else on several of this machine; exit as it does."""
    if nproc == 1:
        with collector.paused():
            program = importlib.import_module(module)
        program.main(settings)
    from bigtrain.core.config import config_to_words
    from launch.local import run_ranks

    raise typer.Exit(run_ranks(module, config_to_words(settings), nproc=nproc))
